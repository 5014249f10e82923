"""Sites that a user declares: a model of no known family, refused without them and adapted with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

import adpm
from adpm.errors import AdapterError, DocumentError, NotFoundError

SCHEMA = Path(__file__).parents[2] / "specs" / "schemas" / "sites.schema.json"


class OwnConfig(PretrainedConfig):  # type: ignore[no-untyped-call]  # transformers' __init_subclass__
    model_type = "own-model"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_size = 16


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(16)
        self.mix = nn.Linear(16, 16)
        self.between = nn.LayerNorm(16)
        self.wide = nn.Linear(16, 32)
        self.narrow = nn.Linear(32, 16)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.mix(self.before(hidden_states))
        wide: torch.Tensor = torch.relu(self.wide(self.between(hidden_states)))
        out: torch.Tensor = hidden_states + self.narrow(wide)
        return out


class OwnModel(PreTrainedModel):  # type: ignore[no-untyped-call]  # transformers' __init_subclass__
    config_class = OwnConfig
    base_model_prefix = "own"

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(20, 16)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden_states: torch.Tensor = self.tokens(input_ids)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states


SITES: dict[str, Any] = {
    "embeddings": "tokens",
    "layers": "blocks",
    "sublayers": {
        "mh_adapter": {"hidden": "mix", "residual": "before"},
        "output_adapter": {"hidden": "narrow", "residual": {"module": "between", "position": 0}, "ends": "add"},
    },
    "linears": {"q": "mix", "intermediate": "wide", "output": "narrow"},
}
IDS = torch.arange(12).view(2, 6)


def own_model() -> Any:
    torch.manual_seed(0)
    model: Any = OwnModel(OwnConfig())
    return model.eval()


def run(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS)
    return found


def test_without_sites_it_is_refused_and_shown_how() -> None:
    handle = adpm.attach(own_model())
    for config in ("pfeiffer", "lora"):
        with pytest.raises(AdapterError) as error:
            handle.add("a", config)
        assert error.value.code == "family-unsupported"
        assert "own-model" in str(error.value.cause)
        assert "adpm.attach(model, sites=sites)" in str(error.value.hint)


def test_lora_in_peft_s_format_needs_no_table() -> None:
    model = own_model()
    bare = run(model)
    handle = adpm.attach(model)
    handle.add("a", "peft_lora", target_modules=["mix", "wide"], init_lora_weights=False)
    with handle.using("a"):
        assert not torch.equal(run(model), bare)
    assert torch.equal(run(model), bare)


YAML = """
embeddings: tokens
layers: blocks
sublayers:
  mh_adapter: {hidden: mix, residual: before}
  output_adapter:
    hidden: narrow
    residual: {module: between, position: 0}
    ends: add
linears: {q: mix, intermediate: wide, output: narrow}
"""


@pytest.mark.parametrize("form", ["mapping", "file"])
@pytest.mark.parametrize("config", ["pfeiffer", "houlsby", "par_bn", "lora", "pfeiffer+inv"])
def test_with_sites_all_methods_act(form: str, config: str, tmp_path: Path) -> None:
    path = tmp_path / "sites.yaml"
    path.write_text(YAML, "utf-8")
    sites: Any = SITES if form == "mapping" else path
    model = own_model()
    bare = run(model)
    handle = adpm.attach(model, sites=sites)
    handle.add("a", config)
    generator = torch.Generator().manual_seed(1)
    for parameter in handle.adapters["a"].parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    handle.activate("a")
    adapted = run(model)
    assert not torch.equal(adapted, bare)
    handle.save("a", tmp_path / "saved")
    again = adpm.attach(own_model(), sites=SITES)
    again.read(tmp_path / "saved", "b")
    again.activate("b")
    assert torch.equal(run(again.model), adapted)


def test_a_declared_bottleneck_is_what_one_computes_by_hand() -> None:
    """h' = h + change(h + r), for a sub-layer that the model adds to its residual itself."""
    model = own_model()
    handle: Any = adpm.attach(model, sites=SITES)
    handle.add("a", "pfeiffer", reduction_factor=4)
    for parameter in handle.adapters["a"].parameters():
        nn.init.normal_(parameter, std=0.5)
    handle.activate("a")
    with torch.no_grad():
        states = model.tokens(IDS)
        for number, block in enumerate(model.blocks):
            part = handle.adapters["a"].parts[f"blocks/{number}/output_adapters"]
            r = states + block.mix(block.before(states))
            h = block.narrow.forward(torch.relu(block.wide(block.between(r))))
            inner = torch.relu(torch.nn.functional.linear(h + r, part["down_weight"], part["down_bias"]))
            states = h + torch.nn.functional.linear(inner, part["up_weight"], part["up_bias"]) + r
    assert torch.allclose(run(model), states, atol=1e-5)


def test_every_fault_is_named_at_once() -> None:
    faulty = {
        "layer": "blocks",
        "sublayers": {"mh_adapter": {"hidden": "mix"}, "out_adapter": {}},
        "linears": {"queries": "mix"},
    }
    model = own_model()
    with pytest.raises(DocumentError) as error:
        adpm.attach(model, sites=faulty)
    assert error.value.code == "sites-invalid"
    found = {fault.path for fault in error.value.faults}
    assert found >= {"layers", "layer", "sublayers.mh_adapter.residual", "sublayers.out_adapter", "linears.queries"}
    assert not hasattr(model, "adpm")


@pytest.mark.parametrize(
    "change",
    [
        {"layers": "layers"},
        {"embeddings": "words"},
        {"linears": {"q": "query"}},
        {"sublayers": {"mh_adapter": {"hidden": "mixing", "residual": "before"}}},
        {"sublayers": {"mh_adapter": {"hidden": "mix", "residual": "front"}}},
    ],
)
def test_modules_that_are_not_there_are_named(change: dict[str, Any]) -> None:
    model = own_model()
    with pytest.raises(AdapterError) as error:
        adpm.attach(model, sites={**SITES, **change})
    assert error.value.code == "family-unsupported"
    assert not hasattr(model, "adpm")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as error:
        adpm.attach(own_model(), sites=tmp_path / "none.yaml")
    assert error.value.code == "sites-not-found"


def test_the_schema_takes_what_the_reader_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.validate(SITES, schema)
    jsonschema.validate({"embeddings": "tokens", "stacks": [{"layers": "blocks"}]}, schema)
    for broken in ({}, {"layers": 1}, {"layers": "a", "linear": {}}, {"layers": "a", "stacks": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)
        with pytest.raises(DocumentError):
            adpm.attach(own_model(), sites=broken)
