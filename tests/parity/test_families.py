"""Every family and method beside the peers, which write random fixtures; slow, and only where a peer is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

from tests.parity.peers.peer import peer
from tests.runtime.test_heads import HEADS

ROOT = Path(__file__).parents[2]
FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta", "deberta-v2", "albert", "modernbert"),
    *("gpt2", "gptj", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"),
    *("t5", "mt5", "bart", "mbart", "whisper", "vit", "beit", "clip"),
)
# PEFT's methods that decide where they act by more than a layer's name.
PEFT = ("lora", "adaption_prompt", "alora", "layer_replication", "ensure_weight_tying", "p_tuning", "prefix_tuning")


@pytest.mark.slow
def test_random_adapters_of_the_peer_on_every_family(tmp_path: Path) -> None:
    """``$ADPM_ADAPTERHUB_PYTHON`` is a Python that has ``adapters``; ``$ADPM_SEED`` draws other fixtures."""
    python = peer("ADPM_ADAPTERHUB_PYTHON")
    written = fixtures(python, "make_adapterhub.py", tmp_path, "--count", "150", "--families", *FAMILIES)
    assert len(written) > len(FAMILIES)
    check(tmp_path)


@pytest.mark.slow
def test_every_head_of_the_peer_on_every_family(tmp_path: Path) -> None:
    written = fixtures(peer("ADPM_ADAPTERHUB_PYTHON"), "make_heads.py", tmp_path)
    assert {name.split(":")[1] for name in written} == set(HEADS)
    assert len(written) > 90
    check(tmp_path)


@pytest.mark.slow
def test_random_adapters_of_every_method_of_adapterhub(tmp_path: Path) -> None:
    """All methods, compositions and families, on bases of odd sizes."""
    written = fixtures(peer("ADPM_ADAPTERHUB_PYTHON"), "make_any.py", tmp_path, "--count", "300")
    assert len(written) > len(FAMILIES)
    check(tmp_path)


@pytest.mark.slow
def test_random_adapters_of_every_method_of_peft(tmp_path: Path) -> None:
    """``$ADPM_PEFT_PYTHON`` is a Python that has ``peft``. Experts are one parameter since transformers 5."""
    python = peer("ADPM_PEFT_PYTHON")
    methods = [*PEFT, *(["target_parameters"] if Version(transformers.__version__).major > 4 else [])]
    written = fixtures(python, "make_peft_methods.py", tmp_path, "--rounds", "4", "--methods", *methods)
    assert {name.split("-", 1)[1] for name in written} == set(methods)
    check(tmp_path)


@pytest.mark.slow
def test_random_options_of_peft_on_every_family(tmp_path: Path) -> None:
    """Every method with what methods have in common (``vary``), on models of other sizes; one or two adapters."""
    if Version(transformers.__version__).major < 5:
        pytest.skip("some bases compute something else on transformers 4 than on the peer's 5")
    written = fixtures(peer("ADPM_PEFT_PYTHON"), "make_peft_methods.py", tmp_path, "--rounds", "2", "--everywhere")
    assert len(written) > 30
    check(tmp_path)


def fixtures(python: str, script: str, directory: Path, *arguments: str) -> set[str]:
    """Let ``python``, which has the peer, write fixtures into ``directory``: their names without numbers."""
    make = ROOT / "tests" / "parity" / "peers" / script
    seed = os.environ.get("ADPM_SEED", "7")
    subprocess.run(
        [python, str(make), str(directory), "--seed", seed, *arguments], check=True, capture_output=True, timeout=600
    )
    return {path.name.split("-", 1)[1] for path in directory.glob("*/[0-9]*-*") if path.parent.name != "bases"}


def check(directory: Path) -> None:
    """All of ``directory`` passes the harness."""
    environment = os.environ | {"ADPM_PARITY_DIR": str(directory), "OMP_NUM_THREADS": "1"}
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
