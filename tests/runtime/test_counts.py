"""What work costs, in counts that can't vary: modules walked, tensors copied, hooks called, products made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import adpm
from adpm.runtime import adapters as handles
from adpm.runtime.hooks import _Hook
from adpm.runtime.methods.added import added
from adpm.runtime.read import read_directory
from tests.runtime.models import inputs, make

LAYERS = 3
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
COPIES = ("copy_", "clone", "_to_copy", "empty", "zeros", "normal_", "uniform_", "fill_")


class Operations(TorchDispatchMode):
    """Counts the operations that reach torch's kernels, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def products(self) -> int:
        return sum(self.counts[name] for name in PRODUCTS)


def operations(call: Callable[[], object]) -> Operations:
    found = Operations()
    with found:
        call()
    return found


def with_adapters() -> Any:
    model = make()
    handle = adpm.attach(model)
    for number in range(4):
        handle.add(f"pf{number}", "pfeiffer")
        handle.add(f"lo{number}", "lora")
    handle.add_fusion(["pf0", "pf1", "pf2"])
    return model


def run(model: Any) -> None:
    with torch.no_grad():  # in inference mode a linear layer is one operation, and its products are not seen
        model(**inputs())


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """A Pfeiffer in AdapterHub's format and a LoRA in PEFT's."""
    handle = adpm.attach(make())
    handle.add("pf", "pfeiffer")
    handle.add("lo", "peft_lora", target_modules=["query", "value"])
    for name in handle.names:
        handle.save(name, tmp_path / name)
    return {name: tmp_path / name for name in handle.names}


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the modules that any walk over any model has come by."""
    found: Counter[str] = Counter()
    walk = nn.Module.named_modules

    def counted(self: nn.Module, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        for item in walk(self, *args, **kwargs):
            if not kwargs.get("prefix") and not args:
                found["modules"] += 1
            yield item

    monkeypatch.setattr(nn.Module, "named_modules", counted)
    return found


@pytest.mark.parametrize("kind", ["pf", "lo"])
def test_reading_one_more_adapter_walks_no_model(kind: str, saved: dict[str, Path], walked: Counter[str]) -> None:
    handle = adpm.attach(make())
    walks = []
    for number in range(4):
        walked.clear()
        handle.read(saved[kind], name=f"x{number}")
        walks.append(walked["modules"])
    first_with_a_weight = 3  # the model, its embeddings, the first of them: for the dtype and the device
    assert walks[1:] == [walks[1]] * 3
    assert walks[1] <= 2 * first_with_a_weight


@pytest.mark.parametrize("kind", ["pf", "lo"])
def test_reading_copies_and_initialises_nothing(kind: str, saved: dict[str, Path]) -> None:
    handle = adpm.attach(make())
    files = read_directory(saved[kind])
    weights = next(data for path, data in files.items() if path.endswith(".safetensors"))
    found = operations(lambda: handle.read_files(files, "x", source="here"))
    assert not [name for name in COPIES if found.counts[name]]
    assert found.counts["sum"] == 1  # over all of the file, for what is not finite
    begin = torch.frombuffer(weights, dtype=torch.uint8).data_ptr()
    places = [parameter.data_ptr() - begin for parameter in handle.adapters["x"].parameters()]
    assert len(places) == 4 * LAYERS
    assert all(0 <= place < len(weights) for place in places)


@pytest.mark.parametrize("loaded", [2, 20])
def test_switching_makes_nothing(loaded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan, no tensor operation, no hook: however many are loaded."""
    model = make()
    handle = adpm.attach(model)
    for number in range(loaded):
        handle.add(f"x{number}", "lora")
        handle.activate(f"x{number}")
    hooks = {name: dict(module._forward_hooks) for name, module in model.named_modules()}
    monkeypatch.setattr(handles, "make_plan", lambda *_: pytest.fail("a plan is made again"))

    def switch() -> None:
        for number in range(loaded):
            handle.activate(f"x{number}")

    assert not operations(switch).counts
    assert {name: dict(module._forward_hooks) for name, module in model.named_modules()} == hooks


@pytest.mark.parametrize(
    ("composition", "products", "norms", "hooks"),
    [
        ("pf0", 2, 1, 1),  # down and up, one hook and one norm more at each layer
        ("lo0", 4, 0, 2),  # A and B on queries and values
        ("stack(pf0, pf1)", 4, 2, 1),
        ("fuse(pf0, pf1, pf2)", 2, 1, 1),  # the way down with the scores', the way up: the cheap form
    ],
)
def test_a_pass_takes_no_more_than_its_formula(composition: str, products: int, norms: int, hooks: int) -> None:
    model = with_adapters()
    bare = operations(lambda: run(model)).counts
    model.adpm.activate(composition)
    run(model)  # folds the fusion's weights
    calls: Counter[str] = Counter()
    hook = _Hook.__call__

    def counted(self: _Hook, *args: Any) -> Any:
        calls["hooks"] += 1
        return hook(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Hook, "__call__", counted)
        found = operations(lambda: run(model))
    assert found.products() - sum(bare[name] for name in PRODUCTS) == products * LAYERS
    assert found.counts["native_layer_norm"] - bare["native_layer_norm"] == norms * LAYERS
    assert calls["hooks"] == hooks * LAYERS


def test_a_merged_adapter_costs_nothing() -> None:
    model = with_adapters()
    bare = operations(lambda: run(model)).counts
    model.adpm.merge("lo0")
    assert operations(lambda: run(model)).counts == bare
    assert not [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_parallel_runs_one_copy_below_the_first_site() -> None:
    """Rows of the base's products: one copy in the first layer up to its adapters, three from there on."""
    model = with_adapters()
    rows: list[int] = []

    def seen(_module: nn.Module, _args: Any, out: torch.Tensor) -> None:
        rows.append(len(out))

    seeing = [
        module.register_forward_hook(seen)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "adpm" not in name and "pooler" not in name
    ]
    model.adpm.activate("parallel(pf0, pf1, pf2)")
    run(model)
    for handle in seeing:
        handle.remove()
    batch = len(inputs()["input_ids"])
    linears = 6  # of a layer
    assert rows == [batch] * linears + [3 * batch] * linears * (LAYERS - 1)


def test_training_makes_no_graph_below_the_first_site() -> None:
    """Backwards, the base's linear layers above the first site cost one product each: none for their weights."""
    model = with_adapters()
    model.adpm.train("pf0")
    loss = model(**inputs()).last_hidden_state.square().mean()
    found = operations(loss.backward)
    adapters = 4 * LAYERS - 1  # two weights and two inputs each; nothing needs what the first one's input would get
    assert found.counts["mm"] == adapters + 6 * (LAYERS - 1)
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("adpm.adapters.pf0."))


def test_a_change_is_added_in_its_own_memory() -> None:
    output, change = torch.ones(2, 3), torch.full((2, 3), 2.0)
    found = added(output, change)
    assert found.data_ptr() == change.data_ptr()
    assert torch.equal(found, torch.full((2, 3), 3.0))
    assert torch.equal(output, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("output", "change"),
    [
        (torch.ones(2, 3, requires_grad=True), torch.ones(2, 3)),
        (torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)),
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bfloat16)),  # as under autocast
        (torch.ones(2, 3), torch.ones(2, 1)),
    ],
)
def test_elsewhere_a_change_stays_as_it_is(output: torch.Tensor, change: torch.Tensor) -> None:
    found = added(output, change)
    assert torch.equal(found, torch.full((2, 3), 2.0))
    assert torch.equal(change, torch.ones_like(change))
