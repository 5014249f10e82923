"""Where the corpus of malformed files lies: ``$ADPM_HOSTILE_DIR``, or ``../shared/hostile`` beside the project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

HOSTILE: Final = Path(os.environ.get("ADPM_HOSTILE_DIR") or Path(__file__).parents[3] / "shared/hostile")


def cases(folder: str, pattern: str = "*") -> list[Path]:
    """The files of one folder of the corpus, by name; empty where there is no corpus."""
    return sorted(path for path in (HOSTILE / folder).glob(pattern) if path.is_file())


def needs(folder: str) -> pytest.MarkDecorator:
    """Skips a test where ``folder`` of the corpus is not there."""
    missing = not (HOSTILE / folder).is_dir()
    return pytest.mark.skipif(missing, reason=f"no {folder} in {HOSTILE}; set ADPM_HOSTILE_DIR")
