"""Try every method on every family, and put README's table of them in place: ``python -m tests.runtime.every``.

``ours.json`` is what adpm did, ``peers.json`` what the peers did, which are asked again where
``ADPM_ADAPTERHUB_PYTHON`` and ``ADPM_PEFT_PYTHON`` name Pythons that have them.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from adpm.formats.peft import PEFT_METHODS
from tests.runtime.every.methods import FAMILY_NAMES, METHODS, settings_for
from tests.runtime.every.table import OURS, PEERS, README, grouped, in_readme, text_of
from tests.runtime.every.trial import model_of, trial


def _ours() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, str]] = {method: {} for method in METHODS}
    for family in FAMILY_NAMES:
        model = model_of(family)
        for method in METHODS:
            with tempfile.TemporaryDirectory() as directory:
                found[method][family] = trial(method, family, model, Path(directory))
    return {method: grouped(by_family) for method, by_family in found.items()}


def _peers() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PEERS.read_text("utf-8")) if PEERS.exists() else {}
    models = {family: model_of(family) for family in FAMILY_NAMES}
    plain = {method: settings_for(method, None) for method in METHODS if not method.startswith("peft_")}
    targeted = {
        kind: {family: settings_for(f"peft_{kind.lower()}", models[family]) for family in models}
        for kind in PEFT_METHODS
    }
    for kind, families in targeted.items():
        if kind in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"):
            for family, settings in families.items():
                paired = getattr(models[family].config, "is_encoder_decoder", False)
                families[family] = {"task_type": "SEQ_2_SEQ_LM" if paired else "FEATURE_EXTRACTION", **settings}
    asked = (("ADPM_ADAPTERHUB_PYTHON", "adapterhub", plain), ("ADPM_PEFT_PYTHON", "peft", targeted))
    for variable, peer, settings in asked:
        python = os.environ.get(variable)
        if python:
            script = Path(__file__).with_name(f"ask_{peer}.py")
            done = subprocess.run(
                [python, script], input=json.dumps(settings), capture_output=True, text=True, check=True
            )
            found[peer] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ours, peers = _ours(), _peers()
    OURS.write_text(text_of(ours), "utf-8")
    PEERS.write_text(text_of(peers), "utf-8")
    README.write_text(in_readme(README.read_text("utf-8"), ours, peers), "utf-8")


if __name__ == "__main__":
    main()
