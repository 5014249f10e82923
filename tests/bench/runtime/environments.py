"""The Pythons that the contenders run in: adpm in this one, each peer in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["python_of"]

TORCH: Final = "torch==2.13.0"  # first, so that the peers' own wishes for torch are met already
PEERS: Final = {"adapters": "adapters==1.3.0", "peft": "peft==0.21.2"}
_GIVEN: Final = {"adapters": "ADPM_ADAPTERHUB_PYTHON", "peft": "ADPM_PEFT_PYTHON"}


def python_of(contender: str, work: Path) -> str:
    """The Python that has ``contender``: the one that the environment names, else one below ``work``, made once."""
    if contender not in PEERS:
        return sys.executable
    given = os.environ.get(_GIVEN[contender])
    if given:
        return given
    place = work / f"venv-{contender}"
    python, made = place / "bin" / "python", place / "made-of"
    wanted = f"{TORCH} {PEERS[contender]}"
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        print(f"making {place}: {wanted}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        for package in (TORCH, PEERS[contender]):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", package], check=True)
        made.write_text(wanted, encoding="utf-8")
    return str(python)
