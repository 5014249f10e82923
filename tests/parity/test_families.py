"""Every family beside AdapterHub itself, which writes random fixtures for it; slow, and only where the peer is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta", "deberta-v2", "albert", "modernbert"),
    *("gpt2", "gptj", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"),
    *("t5", "mt5", "bart", "mbart", "whisper", "vit", "beit", "clip"),
)


@pytest.mark.slow
def test_random_adapters_of_the_peer_on_every_family(tmp_path: Path) -> None:
    """``$ADPM_ADAPTERHUB_PYTHON`` is a Python that has ``adapters``; ``$ADPM_SEED`` draws other fixtures."""
    peer = os.environ.get("ADPM_ADAPTERHUB_PYTHON")
    if not peer:
        pytest.skip("$ADPM_ADAPTERHUB_PYTHON names no Python with adapters")
    make = ROOT / "tests" / "parity" / "peers" / "make_adapterhub.py"
    seed = os.environ.get("ADPM_SEED", "7")
    arguments = [str(tmp_path), "--seed", seed, "--count", "150", "--families", *FAMILIES]
    subprocess.run([peer, str(make), *arguments], check=True, capture_output=True, timeout=600)
    written = {path.name.split("-", 1)[1] for path in (tmp_path / "adapters-1.3.0").iterdir()}
    assert len(written) > len(FAMILIES)
    environment = os.environ | {"ADPM_PARITY_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "tests/parity/test_parity.py",
    ]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=1200)
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert " skipped" not in ran.stdout.splitlines()[-1]
