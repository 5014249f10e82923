"""What compositions do: laws that hold for any adapters, beside the outputs of the peers in ``tests/parity``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adpm
from adpm.errors import CompositionError
from adpm.runtime.methods.fusion import HOT, FusionPart
from tests.runtime.models import FAMILIES, inputs, make, outputs, randomise

KINDS: dict[str, dict[str, Any]] = {
    "sum": {"config": "pfeiffer", "reduction_factor": 8},
    "hidden": {"config": "houlsby"},
    "general": {"config": "pfeiffer", "ln_after": True, "adapter_residual_before_ln": True, "use_gating": True},
    "parallel": {"config": "par_bn", "reduction_factor": 8},
    "product": {"config": "compacter", "reduction_factor": 4},
    "lora": {"config": "lora", "intermediate_lora": True},
    "dora": {"config": "dora"},
    "ia3": {"config": "ia3"},
    "peft": {"config": "peft_lora", "target_modules": ["query", "value", "q_lin", "v_lin"], "use_dora": True},
    "inverse": {"config": "pfeiffer+inv"},
}
ROWS, TOKENS = 3, 9


def with_kinds(family: str = "bert", **changes: Any) -> Any:
    """A model with two adapters of each kind, a and b."""
    model = make(family, **changes)
    handle = adpm.attach(model)
    for kind, settings in KINDS.items():
        for which in "ab":
            handle.add(f"{kind}-{which}", **settings)
            randomise(handle, f"{kind}-{which}", hash_of(kind + which))
    return model


def hash_of(text: str) -> int:
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def states(model: Any, composition: Any = None, rows: Any = None) -> torch.Tensor:
    with model.adpm.using(composition, rows=rows), torch.no_grad():
        out: torch.Tensor = model(**inputs(ROWS, TOKENS))[0]
    return out


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_its_adapter_makes_of_it_alone(kind: str, family: str) -> None:
    model = with_kinds(family)
    a, b = states(model, f"{kind}-a"), states(model, f"{kind}-b")
    bare = states(model)
    assert (a - b).abs().max() > 0.01
    assert_close(states(model, f"batch({kind}-a: 1, {kind}-b: 2)"), torch.cat((a[:1], b[1:])))
    assert_close(states(model, rows=[f"{kind}-b", None, f"{kind}-a"]), torch.stack((b[0], bare[1], a[2])))
    assert_close(states(model, rows=[f"{kind}-b", f"{kind}-a", f"{kind}-b"]), torch.stack((b[0], a[1], b[2])))
    assert_close(states(model, rows=[None, None, None]), bare, 0)
    assert_close(states(model, f"average({kind}-a: 3)"), a)
    assert_close(states(model, f"average({kind}-a: 1, {kind}-a: 2.5)"), a)
    assert_close(states(model, f"split({kind}-a: {TOKENS})"), a)
    if kind != "inverse":
        assert_close(states(model, f"parallel({kind}-a, {kind}-b)"), torch.cat((a, b)))


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_rows_of_any_kinds_side_by_side(family: str) -> None:
    """Also where the peer would take the first row's settings for all."""
    model = with_kinds(family)
    kinds = list(KINDS)
    for first, second, third in zip(kinds, kinds[1:], kinds[2:], strict=False):
        names = [f"{first}-a", f"stack({second}-b, {third}-a)", f"{third}-b"]
        alone = [states(model, name) for name in names]
        assert_close(states(model, rows=names), torch.stack([out[i] for i, out in enumerate(alone)]))


def test_split_acts_by_position() -> None:
    """At one layer alone: only the positions of an adapter are changed by it."""
    model = make(num_hidden_layers=1)
    handle = adpm.attach(model)
    for name in ("a", "b"):
        handle.add(name, "pfeiffer")
        randomise(handle, name, ord(name))
    a, b = states(model, "a"), states(model, "b")
    assert_close(states(model, "split(a: 4, b: 5)"), torch.cat((a[:, :4], b[:, 4:]), 1))


def test_average_is_a_mean_of_outputs_and_not_divided_again() -> None:
    """At one layer without a norm behind it: decision 0020."""
    model = make(num_hidden_layers=1)
    handle = adpm.attach(model)
    for name in ("a", "b"):
        handle.add(name, "houlsby", mh_adapter=False, original_ln_after=False)
        randomise(handle, name, ord(name))
    a, b = states(model, "a"), states(model, "b")
    assert_close(states(model, "average(a: 0.3, b: 0.7)"), 0.3 * a + 0.7 * b)
    assert_close(states(model, "average(a: 3, b: 7)"), 0.3 * a + 0.7 * b)
    assert_close(states(model, "average(a: 1, b: 1)"), (a + b) / 2)


def test_skipping_layers_is_leaving_them_out() -> None:
    for config in ("houlsby", "lora"):
        one, two = make(), make()
        changes: Any
        for model, changes in ((one, {}), (two, {"leave_out": [0, 2]})):
            handle = adpm.attach(model)
            handle.add("x", config, **changes)
            for name, parameter in handle.adapters["x"].named_parameters():
                generator = torch.Generator().manual_seed(hash_of(name))
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        assert_close(states(one, "skip(x: 0, 2)"), states(two, "x"), 0)
        assert (states(one, "x") - states(two, "x")).abs().max() > 0.01


def test_nested() -> None:
    model = with_kinds()
    whole = states(model, "stack(lora-a, sum-a)")
    other = states(model, "stack(lora-b, sum-a)")
    found = states(model, rows=["stack(lora-a, sum-a)", "skip(sum-a: 0, 1, 2)", "stack(lora-b, sum-a)"])
    assert_close(found, torch.stack((whole[0], states(model)[1], other[2])))
    assert_close(states(model, "stack(batch(lora-a: 1, lora-b: 2), sum-a)"), torch.cat((whole[:1], other[1:])))
    one, two = states(model, "stack(lora-a, hidden-a)"), states(model, "stack(lora-b, hidden-a)")
    assert_close(states(model, "parallel(stack(lora-a, hidden-a), stack(lora-b, hidden-a))"), torch.cat((one, two)))
    assert_close(states(model, "stack(parallel(lora-a, lora-b), sum-a)"), torch.cat((whole, other)))
    assert_close(states(model, "stack(stack(lora-a), stack(sum-a))"), whole, 0)


def test_parallel_repeats_rows_from_the_first_acting_layer_on() -> None:
    for family in FAMILIES:
        model = make(family)
        handle = adpm.attach(model)
        for name in ("a", "b", "c"):
            handle.add(name, "pfeiffer", leave_out=[0])
            randomise(handle, name, ord(name))
        handle.activate("parallel(a, b, c)")
        found = outputs(model)
        assert [len(found[f"hidden_states.{i}"]) for i in range(4)] == [3, 3, 9, 9]


@pytest.mark.parametrize("composition", ["batch(sum-a: 2, lora-a: 2)", "split(sum-a: 4, sum-b: 4)"])
def test_a_batch_of_another_size_is_refused(composition: str) -> None:
    model = with_kinds()
    with pytest.raises(CompositionError) as error:
        states(model, composition)
    assert error.value.code == "composition-misfit"
    with pytest.raises(CompositionError, match="3 rows"):
        states(model, rows=["sum-a"])


def fused(names: list[str], adapters: dict[str, Any], fusion: dict[str, Any], family: str = "bert") -> Any:
    model = make(family)
    handle = adpm.attach(model)
    for name in names:
        handle.add(name, **{**adapters, "reduction_factor": {"a": 8, "b": 4, "c": 16}[name]})
        randomise(handle, name, ord(name))
    handle.add_fusion(names, **fusion)
    generator = torch.Generator().manual_seed(5)
    for parameter in handle.fusions.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    handle.activate(f"fuse({', '.join(names)})")
    return model


FUSIONS: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "static": {"config": "static"},
    "temperature": {"temperature": True},
    "before": {"residual_before": True, "query_before_ln": True},
    "after-softmax": {"value_before_softmax": False},
    "no-key": {"key": False},
    "no-query": {"query": False},
}
FUSED: dict[str, dict[str, Any]] = {
    "pfeiffer": {"config": "pfeiffer"},
    "houlsby": {"config": "houlsby", "scaling": 2.0},
    "parallel": {"config": "par_bn", "scaling": "channel"},
    "prelu": {"config": "pfeiffer", "non_linearity": "prelu", "scaling": "learned"},
    "gated": {"config": "pfeiffer", "use_gating": True, "residual_before_ln": False},
}


@pytest.mark.parametrize("adapters", FUSED)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_cheap_fusion_is_exact(adapters: str, fusion: str) -> None:
    model = fused(["a", "b", "c"], FUSED[adapters], FUSIONS[fusion]).double()  # so that only its algebra can differ
    with torch.no_grad():
        cheap = model(**inputs())[0]
    folded = [part._folded is not None for part in model.adpm.fusions["a,b,c"].parts.values()]
    assert all(folded)
    model.adpm.fusions.requires_grad_(True)
    plain = model(**inputs())[0].detach()
    assert not torch.equal(cheap, plain)
    assert_close(cheap, plain, 1e-12)


def test_the_cheap_fusion_follows_the_weights() -> None:
    model = fused(["a", "b"], FUSED["pfeiffer"], {})
    state = {name: tensor.clone() for name, tensor in model.adpm.state_dict().items()}
    with torch.no_grad():
        before = model(**inputs())[0]
        for parameter in model.adpm.adapters["a"].parameters():
            parameter.mul_(2.0)
        after = model(**inputs())[0]
        assert (after - before).abs().max() > 0.01
        model.adpm.load_state_dict(state)
        assert_close(model(**inputs())[0], before, 1e-6)
        randomise(model.adpm, "b", 99)
        assert (model(**inputs())[0] - before).abs().max() > 0.01
        model.double()
        assert model(**inputs())[0].dtype == torch.float64


def test_training_a_fusion_trains_it_alone() -> None:
    model = fused(["a", "b"], {"config": "pfeiffer"}, {"temperature": True})
    handle = model.adpm
    handle.add("task", "houlsby", head=2)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items() if ".fusions." not in name}
    handle.train("stack(fuse(a, b), task)")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = {name for name in trained if "/" not in name.rpartition("task.")[2] or "task.head/" in name}
    assert {name for name in trained if ".fusions." not in name} == {name for name in heads if ".fusions." not in name}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(25):
        loss = model(**inputs(), labels=torch.tensor([0, 1, 1])).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in base.items() if "task.head/" not in name)
    part: FusionPart = next(iter(handle.fusions["a,b"].parts.values()))
    assert part.temperature == pytest.approx(HOT - 25 * HOT / 1000)
    model.eval()
    found = [model(**inputs()).logits.detach() for _ in range(2)]
    assert torch.equal(*found)
    assert part.temperature == pytest.approx(HOT - 25 * HOT / 1000)


@pytest.mark.parametrize(
    ("fusion", "family"), [*((fusion, "bert") for fusion in FUSIONS), *(("dynamic", family) for family in FAMILIES)]
)
def test_a_fusion_is_read_as_it_was_saved(fusion: str, family: str, tmp_path: Path) -> None:
    model = fused(["a", "b"], FUSED["houlsby"], FUSIONS[fusion], family)
    expected = outputs(model)
    handle = model.adpm
    handle.save_fusion(["a", "b"], tmp_path / "fusion")
    for name in ("a", "b"):
        handle.save(name, tmp_path / name)
    other = make(family)
    again = adpm.attach(other)
    again.read(tmp_path / "a", name="x")
    again.read(tmp_path / "b", name="y")
    with pytest.raises(CompositionError, match="nothing says"):
        again.activate("fuse(x, y)")
    assert again.read_fusion(tmp_path / "fusion", names=["x", "y"]) == ("x", "y")
    again.activate("fuse(x, y)")
    found = outputs(other)
    for key, value in expected.items():
        assert_close(found[key], value, 1e-6)
    again.activate(None)
    again.remove("y")
    assert not again.fusions


def test_a_cooled_fusion_is_saved_as_it_is(tmp_path: Path) -> None:
    model = fused(["a", "b"], FUSED["pfeiffer"], {"temperature": True})
    for part in model.adpm.fusions["a,b"].parts.values():
        part.temperature = 7.0
    expected = outputs(model)
    model.adpm.save_fusion(["a", "b"], tmp_path)
    model.adpm.read_fusion(tmp_path)
    for key, value in expected.items():
        assert_close(outputs(model)[key], value)


@pytest.mark.parametrize(
    "composition",
    [
        pytest.param("batch(sum-a: 1, lora-b: 2)", marks=pytest.mark.slow),
        pytest.param("average(hidden-a: 1, hidden-b: 2)", marks=pytest.mark.slow),
        pytest.param("parallel(sum-a, sum-b)", marks=pytest.mark.slow),
        "fuse(sum-a, sum-b)",
    ],
)
def test_a_compiled_composition_is_one_graph(composition: str) -> None:
    model = with_kinds()
    model.adpm.add_fusion(["sum-a", "sum-b"])
    model.adpm.activate(composition)
    with torch.no_grad():
        expected = model(**inputs())[0]
        compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
        found = compiled(**inputs())[0]
    reset: Any = torch.compiler.reset
    reset()
    assert_close(found, expected)
