"""One method on one small model: what adpm does with it, and that it does it right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

import torch

import adpm
from adpm.errors import AdpmError
from tests.parity.peers.small import SMALL, model_inputs, randomise, tensors_of
from tests.runtime.every.methods import settings_for

__all__ = ["FORMATS", "model_of", "trial"]

FORMATS: Final[tuple[Literal["adapterhub", "peft"], ...]] = ("adapterhub", "peft")
Outputs = dict[str, torch.Tensor]


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    model = SMALL[family].model()
    randomise(model, 0.15)
    return model


def trial(method: str, family: str, model: Any, directory: Path) -> str:
    """What can be done, in words: the formats it is saved in, "merge", "rows"; or the code of the error at ``add``.

    ``model`` is the family's, bare, and so it is left. Raises ``AssertionError`` where something is done wrong: the
    base is another with the adapter off, the adapter does nothing, is read as another than was saved, leaves gradients
    elsewhere or none, or does something else merged or in its rows of a batch.
    """
    inputs = model_inputs(SMALL[family].kind)
    bare = _run(model, inputs)
    handle = adpm.attach(model)
    try:
        torch.manual_seed(1)
        try:
            if method == "peft_p_tuning":
                _read_p_tuning(handle, directory / "encoded")
            else:
                handle.add("x", method, **settings_for(method, model))
            _shake(handle, "x", 2)
        except AdpmError as error:  # some misfits are known where it is to act
            return error.code
        assert _same(_run(model, inputs), bare)
        with handle.using("x"):
            expected = _run(model, inputs)
        assert _far(expected, bare) > 1e-4
        can: list[str] = [name for name in FORMATS if _saves(handle, name, directory)]
        own = "peft" if method.startswith("peft_") else "adapterhub"
        assert own in can
        _check_read(handle, directory / own, expected, inputs)
        _check_gradients(handle, inputs)
        can += ["merge"] * _merges(handle, expected, bare, inputs)
        can += ["rows"] * _mixes(handle, expected, bare, inputs)
        return " ".join(can)
    finally:
        handle.unload()
        assert _same(_run(model, inputs), bare)


def _run(model: Any, inputs: Outputs) -> Outputs:
    with torch.no_grad():
        found = tensors_of(model(**inputs, output_hidden_states=True))
    return {key: value for key, value in found.items() if "logits_per" not in key}  # CLIP's mix the rows


def _same(first: Outputs, second: Outputs) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _far(first: Outputs, second: Outputs) -> float:
    """The greatest difference, to the greatest value; 1 where the shapes differ, as virtual tokens make them."""
    return max(
        float((first[key] - value).abs().max() / value.abs().max().clamp(min=1.0))
        if first[key].shape == value.shape
        else 1.0
        for key, value in second.items()
    )


def _shake(handle: adpm.Adapters, name: str, seed: int) -> None:
    """Random values around what is trained started with, so that no zero start hides an error."""
    generator = torch.Generator().manual_seed(seed)
    handle.train(name)
    for parameter in handle.adapters[name].parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape, generator=generator).to(parameter)
    handle.activate(None)
    handle.model.eval()
    handle.adapters[name].requires_grad_(False)


def _read_p_tuning(handle: adpm.Adapters, directory: Path) -> None:
    """adpm reads what the peer's encoder made, and makes no encoder: a prompt, saved under the other name."""
    settings = {**settings_for("peft_p_tuning", handle.model)}
    handle.add("prompt", "peft_prompt_tuning", num_virtual_tokens=settings["num_virtual_tokens"])
    handle.save("prompt", directory)
    handle.remove("prompt")
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    shared = {key: config[key] for key in ("task_type", "token_dim", "num_layers") if key in config}
    path.write_text(json.dumps({"peft_type": "P_TUNING", **shared, **settings}), "utf-8")
    handle.read(directory, name="x")


def _saves(handle: adpm.Adapters, form: Literal["adapterhub", "peft"], directory: Path) -> bool:
    try:
        handle.save("x", directory / form, format=form)
    except AdpmError as error:
        assert error.code == "format-unsupported", error  # noqa: PT017 - another error is one of adpm's
        assert not (directory / form).exists()
        return False
    return True


def _check_read(handle: adpm.Adapters, directory: Path, expected: Outputs, inputs: Outputs) -> None:
    handle.read(directory, name="y")
    first, second = (handle.adapters[name].state_dict() for name in ("x", "y"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    with handle.using("y"):
        assert _far(_run(handle.model, inputs), expected) < 1e-5  # where a weight lies decides the last bits


def _check_gradients(handle: adpm.Adapters, inputs: Outputs) -> None:
    handle.train("x")
    handle.model.eval()
    out = tensors_of(handle.model(**inputs))
    loss: Any = torch.stack([value.float().square().sum() for value in out.values() if value.requires_grad]).sum()
    loss.backward()
    own = {id(parameter) for parameter in handle.adapters["x"].parameters()}
    gradients = {id(parameter): parameter.grad for parameter in handle.model.parameters() if parameter.grad is not None}
    assert gradients.keys() <= own
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())
    handle.activate(None)
    handle.model.zero_grad()
    handle.adapters["x"].requires_grad_(False)


def _merges(handle: adpm.Adapters, expected: Outputs, bare: Outputs, inputs: Outputs) -> bool:
    try:
        handle.merge("x")
    except AdpmError as error:
        assert error.code == "merge-unsupported", error  # noqa: PT017 - another error is one of adpm's
        assert _same(_run(handle.model, inputs), bare)
        return False
    assert _far(_run(handle.model, inputs), expected) < 1e-3
    handle.unmerge()
    assert _same(_run(handle.model, inputs), bare)
    return True


def _mixes(handle: adpm.Adapters, expected: Outputs, bare: Outputs, inputs: Outputs) -> bool:
    """Each row of three is its adapter's alone, and the bare base's where it has none."""
    _shake(handle, "y", 3)
    with handle.using("y"):
        other = _run(handle.model, inputs)
    try:
        with handle.using(rows=["x", None, "y"]):
            found = _run(handle.model, inputs)
    except AdpmError:
        return False
    for row, alone in enumerate((expected, bare, other)):
        assert _far({k: v[row] for k, v in found.items()}, {k: alone[k][row] for k in found}) < 1e-4
    return True
