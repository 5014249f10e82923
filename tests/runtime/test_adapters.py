"""The handle: what acts when, what training touches, and that unloading gives the model back bit for bit."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adpm
from adpm.errors import AdapterError, AdpmError, CompositionError, DocumentError, NotFoundError, UsageError
from adpm.runtime.hooks import _Hook
from tests.runtime.models import FAMILIES, inputs, make, outputs, randomise


def with_adapters(family: str = "bert", *, head: bool = False) -> Any:
    """A model with a Pfeiffer (with a head), a Houlsby, a parallel bottleneck and a LoRA, all random."""
    model = make(family, head=head)
    handle = adpm.attach(model)
    handle.add("pf", "pfeiffer", head=4)
    handle.add("ho", "houlsby")
    handle.add("pa", "par_bn")
    handle.add("lo", "lora")
    for seed, name in enumerate(handle.names):
        randomise(handle, name, seed)
    return model


def our_hooks(model: Any) -> list[tuple[str, Any]]:
    """Those of adpm by their modules' names; transformers has some of its own where hidden states are asked for."""
    return [
        (name, hook)
        for name, module in model.named_modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if isinstance(hook, _Hook)
    ]


def hooks_of(model: Any) -> int:
    return len(our_hooks(model))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_nothing_acts_before_activation() -> None:
    bare = make()
    expected = outputs(bare)
    model = with_adapters()
    assert hooks_of(model) == 0
    assert same(outputs(model), expected)
    assert model.adpm.active is None
    assert model.adpm.names == ("pf", "ho", "pa", "lo")


@pytest.mark.parametrize(
    ("composition", "points"),
    [("pf", 3 + 2), ("ho", 6), ("pa", 6), ("lo", 6), ("stack(ho, lo)", 12), ("stack(lo, pf)", 3 + 6 + 2)],
)
def test_hooks_stand_only_where_something_acts(composition: str, points: int) -> None:
    """Three layers; Pfeiffer acts at one place of each with one hook, and its head takes two on the model."""
    model = with_adapters()
    model.adpm.activate(composition)
    assert hooks_of(model) == points
    model.adpm.activate(None)
    assert hooks_of(model) == 0


def test_switching_between_adapters_of_one_kind_moves_no_hook() -> None:
    model = make()
    handle = adpm.attach(model)
    for name in ("a", "b"):
        handle.add(name, "pfeiffer")
        randomise(handle, name, ord(name))
    handle.activate("a")
    before = our_hooks(model)
    first = outputs(model)
    handle.activate("b")
    assert our_hooks(model) == before
    assert not same(outputs(model), first)
    handle.activate("a")
    assert same(outputs(model), first)


NAMES = st.sampled_from([None, "pf", "ho", "pa", "lo", "stack(pf, ho)", "stack(ho, pa)", "stack(lo, pf)"])


@settings(max_examples=15)
@given(st.lists(NAMES, min_size=1, max_size=6))
def test_the_path_to_a_composition_does_not_matter(path: list[str | None]) -> None:
    model = with_adapters()
    for composition in path:
        model.adpm.activate(composition)
    direct = with_adapters()
    direct.adpm.activate(path[-1])
    assert hooks_of(model) == hooks_of(direct)
    assert same(outputs(model), outputs(direct))


def test_using_and_disabled() -> None:
    model = with_adapters()
    handle = model.adpm
    bare = outputs(model)
    handle.activate("ho")
    houlsby = outputs(model)
    with handle.using("stack(lo, ho)"):
        assert str(handle.active) == "stack(lo, ho)"
        assert not same(outputs(model), houlsby)
        with handle.disabled():
            assert same(outputs(model), bare)
    assert same(outputs(model), houlsby)
    with pytest.raises(RuntimeError, match="on purpose"), handle.using("pa"):
        raise RuntimeError("on purpose")
    assert handle.active == "ho"
    assert same(outputs(model), houlsby)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", [False, True])
def test_unload_gives_back_the_model(family: str, head: bool) -> None:
    model = make(family, head=head)
    model.train()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    model.base_model.embeddings.eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    handle = adpm.attach(model)
    handle.add("x", "houlsby", head=3)
    handle.add("y", "pfeiffer+inv")
    handle.train("stack(y, x)")
    loss = model(**inputs(), labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    assert handle.unload() is model
    assert not hasattr(model, "adpm")
    assert hooks_of(model) == 0
    assert same(dict(model.state_dict()), state)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(UsageError) as error:
        handle.activate("x")
    assert error.value.code == "not-attached"
    adpm.attach(model).add("x")


def test_attach_twice_is_refused() -> None:
    model = make()
    adpm.attach(model)
    with pytest.raises(UsageError) as error:
        adpm.attach(model)
    assert error.value.code == "already-attached"


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize(
    "settings_",
    [
        {"config": "pfeiffer", "head": 2},
        {"config": "houlsby", "head": {"num_labels": 2, "layers": 1}},
        {"config": "compacter", "reduction_factor": 4, "head": 2},
        {"config": "lora", "r": 4, "head": 2},
        {"config": "pfeiffer", "scaling": "learned", "use_gating": True, "dropout": 0.1, "head": 2},
        {"config": "pfeiffer", "stochastic_depth": 0.2, "head": 2},
    ],
)
def test_training_lowers_the_loss_and_touches_only_the_adapter(settings_: dict[str, Any], head: bool) -> None:
    model = make(head=head)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    handle = adpm.attach(model)
    torch.manual_seed(3)
    handle.add("x", **settings_)
    handle.train("x")
    assert handle.training
    assert model.training
    assert handle.active == "x"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in handle.adapters["x"].parameters()}
    labels = torch.tensor([0, 1, 1])
    optimizer = torch.optim.Adam(trained, lr=0.01)
    losses = []
    for _ in range(30):
        loss = model(**inputs(), labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in trained)
    assert same({name: tensor for name, tensor in model.state_dict().items() if name in base}, base)


def test_regression_and_positional_tuples() -> None:
    model = make()
    handle = adpm.attach(model)
    handle.add("x", head=1)
    handle.activate("x")
    out = model(**inputs(), labels=torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(out.loss, ((out.logits.view(-1) - torch.tensor([0.1, 0.2, 0.3])) ** 2).mean())
    loss, logits = model(**inputs(), labels=torch.tensor([0.1, 0.2, 0.3]), return_dict=False)
    assert torch.equal(loss, out.loss)
    assert torch.equal(logits, out.logits)
    assert torch.equal(model(**inputs(), return_dict=False)[0], out.logits)


@pytest.mark.parametrize("head", [False, True])
def test_the_last_head_of_a_stack_speaks(head: bool) -> None:
    model = make(head=head)
    handle = adpm.attach(model)
    for name, labels in (("a", 2), ("b", 5), ("c", None)):
        handle.add(name, head=labels)
        randomise(handle, name, ord(name))
    handle.activate("stack(a, b, c)")
    assert outputs(model)["logits"].shape == (3, 5)
    handle.activate("stack(b, a)")
    assert outputs(model)["logits"].shape == (3, 2)
    handle.activate("c")
    assert ("logits" in outputs(model)) == head


def test_a_head_that_wants_a_pooler_says_so() -> None:
    handle = adpm.attach(make("distilbert"))
    with pytest.raises(AdapterError, match="pooler"):
        handle.add("x", head={"num_labels": 2, "use_pooler": True})
    assert handle.names == ()


def test_weights_are_the_model_s() -> None:
    model = with_adapters()
    keys = {name for name in model.state_dict() if name.startswith("adpm.")}
    assert keys
    assert keys == {name for name, _ in model.named_parameters() if name.startswith("adpm.")}
    state = copy.deepcopy(model.state_dict())
    model.adpm.activate("pf")
    expected = outputs(model)
    randomise(model.adpm, "pf", 77)
    assert not same(outputs(model), expected)
    model.load_state_dict(state)
    assert same(outputs(model), expected)


def test_bfloat16_follows_the_model() -> None:
    model = with_adapters()
    model.adpm.activate("stack(lo, pf)")
    expected = outputs(model)["logits"]
    model.to(torch.bfloat16)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.adpm.parameters())
    found = outputs(model)["logits"]
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.3)
    model.adpm.add("new", "pfeiffer")
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.adpm.adapters["new"].parameters())


def test_no_grad_inference_and_grad_give_the_same() -> None:
    model = with_adapters()
    model.adpm.activate("stack(lo, ho, pf)")
    first = model(**inputs()).logits
    with torch.no_grad():
        second = model(**inputs()).logits
    with torch.inference_mode():
        third = model(**inputs()).logits
    assert torch.equal(first.detach(), second)
    assert torch.equal(second, third)


def test_copies_have_hooks_of_their_own() -> None:
    model = with_adapters()
    model.adpm.activate("stack(lo, pf)")
    stored = io.BytesIO()
    torch.save(model, stored)  # before transformers puts hooks of its own there, which can't be pickled
    expected = outputs(model)
    twin = copy.deepcopy(model)
    assert twin.adpm.model is twin
    assert same(outputs(twin), expected)
    twin.adpm.activate("ho")
    assert not same(outputs(twin), expected)
    assert same(outputs(model), expected)
    stored.seek(0)
    again = torch.load(stored, weights_only=False)
    assert same(outputs(again), expected)
    again.adpm.unload()
    assert hooks_of(again) == 0
    assert hooks_of(model) > 0


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = with_adapters()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.adpm.train("stack(lo, ho, pa, pf)")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model(**inputs(), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([p.grad for p in model.adpm.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_names_with_dots_and_slashes() -> None:
    model = make()
    handle = adpm.attach(model)
    handle.add("text/sst-2.large", "pfeiffer")
    randomise(handle, "text/sst-2.large".replace(".", "%2E"))
    assert handle.names == ("text/sst-2.large",)
    handle.activate("stack(text/sst-2.large)")
    assert model.state_dict().keys() >= {"adpm.adapters.text/sst-2%2Elarge.encoder/layer/0/output/down_weight"}


def test_names_that_torch_s_dicts_have_as_methods() -> None:
    handle = adpm.attach(make())
    for name in ("keys", "half", "train", "parameters"):
        handle.add(name, "lora")
        handle.activate(name)
    assert handle.names == ("keys", "half", "train", "parameters")


def test_remove() -> None:
    model = with_adapters()
    handle = model.adpm
    handle.activate("stack(ho, pf)")
    with pytest.raises(UsageError, match="active"):
        handle.remove("ho")
    handle.remove("pa")
    assert handle.names == ("pf", "ho", "lo")
    with pytest.raises(NotFoundError):
        handle.activate("pa")
    handle.add("pa", "par_bn")
    assert str(handle.active) == "stack(ho, pf)"


def test_what_is_removed_is_freed_without_the_collector() -> None:
    model = with_adapters()
    handle = model.adpm
    for composition in ("stack(ho, pf)", "batch(pf: 1, ho: 2)", "lo", None):
        with handle.using(composition):
            outputs(model)
    held = [weakref.ref(tensor) for name in ("ho", "lo") for tensor in handle.adapters[name].parameters()]
    gc.disable()
    try:
        handle.remove("ho")
        handle.remove("lo")
        assert held
        assert not any(reference() is not None for reference in held)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("call", "kind", "code"),
    [
        (lambda h: h.activate("nobody"), NotFoundError, "adapter-not-found"),
        (lambda h: h.activate("stack(ho, nobody)"), NotFoundError, "adapter-not-found"),
        (lambda h: h.activate("stack(ho"), CompositionError, "composition-invalid"),
        (lambda h: h.activate("fuse(ho, pf)"), CompositionError, "fusion-missing"),
        (lambda h: h.activate("fuse(lo, pf)"), CompositionError, "composition-unsupported"),
        (lambda h: h.activate("batch(parallel(ho, pf): 1, lo: 1)"), CompositionError, "composition-unsupported"),
        (
            lambda h: h.activate("stack(batch(lo: 1, pf: 2), batch(lo: 2, pf: 1))"),
            CompositionError,
            "composition-unsupported",
        ),
        (lambda h: h.activate("ho", rows=["pf"]), UsageError, "rows-invalid"),
        (lambda h: h.activate(rows=[]), UsageError, "rows-invalid"),
        (lambda h: h.activate(rows=["parallel(ho, pf)"]), CompositionError, "composition-unsupported"),
        (lambda h: h.add_fusion(["lo", "pf"]), UsageError, "fusion-invalid"),
        (lambda h: h.add_fusion(["pf"]), UsageError, "fusion-invalid"),
        (lambda h: h.add_fusion(["ho", "pf"], "warm"), UsageError, "fusion-invalid"),
        (lambda h: h.add_fusion(["ho", "pf"], keys=True), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add_fusion(["ho", "nobody"]), NotFoundError, "adapter-not-found"),
        (lambda h: h.save_fusion(["ho", "pf"], "nowhere"), NotFoundError, "fusion-missing"),
        (lambda h: h.add("ho"), UsageError, "adapter-exists"),
        (lambda h: h.add("a b"), UsageError, "adapter-name-invalid"),
        (lambda h: h.add("stack(a)"), UsageError, "adapter-name-invalid"),
        (lambda h: h.add("x", "pfeifer"), UsageError, "method-unknown"),
        (lambda h: h.add("x", {"architecture": "hypernetwork"}), AdapterError, "method-unsupported"),
        (lambda h: h.add("x", reduction_factor=0), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add("x", reduction_factor="16"), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add("x", reduction_factor={"0": 2}), AdapterError, "adapter-misfit"),
        (lambda h: h.add("x", reduktion=2), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add("x", non_linearity="swoosh"), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add("x", dropout=float("nan")), DocumentError, "adapter-config-invalid"),
        (
            lambda h: h.add("x", residual_before_ln="post_add", original_ln_before=False),
            DocumentError,
            "adapter-config-invalid",
        ),
        (lambda h: h.add("x", "compacter", phm_dim=5), AdapterError, "adapter-misfit"),
        (lambda h: h.add("x", "ia3", r=2), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add("x", "peft_lora", target_modules=["nothing"]), AdapterError, "adapter-misfit"),
        (lambda h: h.add("x", "peft_lora", target_modules=["embeddings"]), AdapterError, "method-unsupported"),
        (
            lambda h: h.add("x", "peft_lora", target_modules=["query"], modules_to_save=["query"]),
            AdapterError,
            "adapter-misfit",
        ),
        (lambda h: h.add("x", "peft_lora", target_modules="(a+)+"), DocumentError, "adapter-config-invalid"),
        (lambda h: h.add("x", "peft_lora", target_modules=["query"], head=2), UsageError, "head-invalid"),
        (
            lambda h: h.add("x", head={"num_labels": 2, "activation_function": "swoosh"}),
            DocumentError,
            "adapter-config-invalid",
        ),
    ],
)
def test_refusals_leave_the_model_alone(call: Any, kind: type[AdpmError], code: str) -> None:
    model = with_adapters()
    handle = model.adpm
    handle.activate("ho")
    before = outputs(model)
    keys = list(model.state_dict())
    with pytest.raises(kind) as error:
        call(handle)
    assert error.value.code == code
    assert handle.active == "ho"
    assert list(model.state_dict()) == keys
    assert same(outputs(model), before)


def test_a_model_without_a_table_takes_peft_s_lora_only() -> None:
    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x)
            return out

    model = Other()
    handle = adpm.attach(model)
    with pytest.raises(AdapterError) as error:
        handle.add("x", "pfeiffer")
    assert error.value.code == "family-unsupported"
    handle.add("x", "peft_lora", target_modules=["layer"], r=2)
    randomise(handle, "x")
    x = torch.ones(1, 4)
    bare = model(x)
    handle.activate("x")
    adapter: Any = handle.adapters["x"]
    a, b = adapter.parts["layer"].pair()
    assert torch.allclose(model(x), bare + 4 * x @ a.T @ b.T, atol=1e-5)


@pytest.mark.parametrize("composition", ["pf", "stack(lo, ho, pf)", "stack(pf, pa)"])
def test_a_compiled_model_is_one_graph_and_gives_the_same(composition: str) -> None:
    model = with_adapters()
    model.adpm.activate(composition)
    with torch.no_grad():
        expected = model(**inputs())[0]
        compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
        found = compiled(**inputs())[0]
    reset: Any = torch.compiler.reset
    reset()
    assert torch.allclose(found, expected, atol=1e-6)
