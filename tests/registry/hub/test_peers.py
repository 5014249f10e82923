"""What adpm publishes to the Hub the peers load from there, as they load anything: in their own environments.

``$ADPM_PEFT_PYTHON`` and ``$ADPM_ADAPTERHUB_PYTHON`` name interpreters that have them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from adpm.registry.open import open_registry
from adpm.testing.making import make
from tests.parity.corpus import ROOT
from tests.registry.hub.server import Hub

# The outputs of the adapter from the Hub at a version, and from the directory that it was published from.
_PEFT = """
from peft import PeftModel
def load(place, version):
    return PeftModel.from_pretrained(base(), place, revision=version)
"""
_ADAPTERHUB = """
import adapters
def load(place, version):
    model = base()
    adapters.init(model)
    model.load_adapter(place, version=version, use_safetensors=True, set_active=True)
    return model
"""
_MAIN = """
import sys, torch, transformers
kind, path, place, version, directory = sys.argv[1:]
def base():
    return getattr(transformers, kind).from_pretrained(path).eval()
{load}
ids = torch.arange(12).reshape(2, 6) + 5
with torch.no_grad():
    outputs = [model(input_ids=ids)[0] for model in (load(place, version).eval(), load(directory, None).eval(), base())]
assert torch.equal(outputs[0], outputs[1])
assert not torch.allclose(outputs[0], outputs[2], atol=1e-2)
print("same")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "load", "files"),
    [
        ("ADPM_PEFT_PYTHON", _PEFT, "peft-0.21.2/032-roberta-lora/adapters"),
        ("ADPM_ADAPTERHUB_PYTHON", _ADAPTERHUB, "adapters-1.3.0/001-bert-seq_bn/adapters_safetensors/task"),
    ],
)
def test_the_peers_load_what_was_published(hub: Hub, tmp_path: Path, variable: str, load: str, files: str) -> None:
    python = os.environ.get(variable)
    if python is None or not ROOT.is_dir():
        pytest.skip(f"{variable} names no interpreter, or the corpus is not at {ROOT}")
    fixture = ROOT.joinpath(*Path(files).parts[:2])
    directory = ROOT / files
    content = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "README.md"}
    registry = open_registry("hub", "hf://alice", tmp_path)
    registry.publish(make(tmp_path, "text/x", "1.0", files=content))
    registry.publish(make(tmp_path, "text/x", "2.0", files={"adapter_config.json": b"{}"}))
    meta = json.loads((fixture / "meta.json").read_bytes())
    script = tmp_path / "script.py"
    script.write_text(_MAIN.format(load=load), encoding="utf-8")
    done = subprocess.run(
        [python, script, meta["base_class"], ROOT / meta["base"], "alice/text__x", "1.0", directory],
        env=os.environ | {"HF_HOME": str(tmp_path / "peer"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("same\n"), done.stderr
