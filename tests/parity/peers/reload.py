"""Load what adpm saved in the peer that the format belongs to, and print how far its outputs are from adpm's.

    ADAPTERHUB_OR_PEFT_PYTHON tests/parity/peers/reload.py DIR...

Each ``DIR`` holds ``base/`` (a checkpoint), ``adapter/`` (what adpm saved), ``inputs.safetensors``,
``outputs.safetensors`` (what adpm computed), ``base_class.txt`` and ``labels.json`` (the label map that adpm shows).
Prints a line for each: its name and the greatest difference, or what the peer says is wrong. Runs without adpm.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from small import tensors_of  # type: ignore[import-not-found]  # beside this file, which runs as a script


def adapterhub(directory: Path, base_class: str) -> Any:
    import adapters  # noqa: PLC0415 - one environment has only one of the peers

    word = base_class.removesuffix("Model").removesuffix("Encoder")
    model = getattr(adapters, f"{word}AdapterModel").from_pretrained(directory / "base")
    with_head = (directory / "adapter" / "head_config.json").exists()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    loaded = model.load_adapter(str(directory / "adapter"), with_head=with_head, use_safetensors=True)
    changed = [n for n, p in model.named_parameters() if n in before and not torch.equal(p, before[n])]
    if changed:
        raise ValueError(f"loading it changes the base's {', '.join(changed)}")
    model.set_active_adapters(loaded)
    if with_head:
        model.active_head = loaded
        labels = json.loads((directory / "labels.json").read_text("utf-8"))
        if model.config.label2id not in (labels, None):
            raise ValueError(f"the labels are {model.config.label2id}, and adpm's {labels}")
    return model


def peft(directory: Path, base_class: str) -> Any:
    from peft import PeftModel  # noqa: PLC0415 - one environment has only one of the peers

    model = getattr(transformers, base_class).from_pretrained(directory / "base")
    return PeftModel.from_pretrained(model, directory / "adapter")


def difference(directory: Path) -> float:
    base_class = (directory / "base_class.txt").read_text("utf-8").strip()
    is_peft = "peft_type" in (directory / "adapter" / "adapter_config.json").read_text("utf-8")
    model = (peft if is_peft else adapterhub)(directory, base_class).eval()
    inputs = load_file(directory / "inputs.safetensors")
    expected = load_file(directory / "outputs.safetensors")
    with torch.no_grad():
        found = tensors_of(model(**inputs, output_hidden_states=True))
    return max(float((found[key] - value).abs().max()) for key, value in expected.items())


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        try:
            print(f"{Path(name).name} {difference(Path(name))}")
        except (AttributeError, TypeError, ValueError, RuntimeError, KeyError) as error:
            print(f"{Path(name).name} {type(error).__name__}: {error}".replace("\n", " "))


if __name__ == "__main__":
    main()
