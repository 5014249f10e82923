"""Every family of the tables: what acts where, that off is off, that save and read are exact, what gradients reach."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import adpm
from adpm.errors import AdpmError
from adpm.formats.model import read_model
from adpm.runtime.anatomy import Anatomy
from adpm.runtime.hooks import Plan
from adpm.runtime.identity import identify
from adpm.runtime.sites import FAMILIES
from adpm.runtime.sites.family import SUBLAYERS
from tests.parity.peers.small import SMALL, model_inputs, randomise, tensors_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:DeprecationWarning"
)  # DeBERTa's module, when imported

FAMILY_NAMES = sorted(FAMILIES.keys() - {"gemma3"})  # gemma3 is gemma3_text beside a vision tower
METHODS: dict[str, dict[str, Any]] = {
    "pfeiffer": {"config": "pfeiffer", "cross_adapter": True, "reduction_factor": 4},
    "houlsby": {"config": "houlsby", "cross_adapter": True, "reduction_factor": 4},
    "parallel": {"config": "par_bn", "mh_adapter": True, "reduction_factor": 4},
    "lora": {
        "config": "lora",
        "r": 2,
        "attn_matrices": ["q", "k", "v"],
        "intermediate_lora": True,
        "output_lora": True,
    },
    "ia3": {"config": "ia3"},
}


def model_of(family: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = SMALL[family].model()
    randomise(model, 0.15)
    return model


def run(model: Any, family: str) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return tensors_of(model(**model_inputs(SMALL[family].kind), output_hidden_states=True))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def add(handle: Any, name: str, method: str) -> None:
    handle.add(name, **METHODS[method])
    generator = torch.Generator().manual_seed(len(name))
    for parameter in handle.adapters[name].parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


def counting(key: str, call: Any, counted: Counter[str]) -> Any:
    def count(x: torch.Tensor) -> Any:
        counted.update([key])
        return call(x)

    return count


def test_every_family_has_a_small_model() -> None:
    assert set(FAMILY_NAMES) == set(SMALL)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_off_is_the_base_and_on_is_not(family: str) -> None:
    model = model_of(family)
    bare = run(model, family)
    handle: Any = adpm.attach(model)
    seen = [bare]
    for method in METHODS:
        add(handle, method, method)
        assert same(run(model, family), bare)
        with handle.using(method):
            found = run(model, family)
        assert all(torch.isfinite(value).all() for value in found.values()), method
        key = next(name for name in found if name.endswith("last_hidden_state"))
        assert all((found[key] - other[key]).abs().max() > 1e-3 for other in seen), method
        seen.append(found)
    assert same(run(model, family), bare)
    handle.unload()
    assert same(run(model, family), bare)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_each_site_acts_once_a_pass(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where h' is made: as often as the layer runs, which is once but for ALBERT's shared ones."""
    model = model_of(family)
    handle: Any = adpm.attach(model)
    anatomy = Anatomy(model)
    sites = [site for name in SUBLAYERS for site in anatomy.sites(name)]
    layers = dict(anatomy.layers())
    assert len({site.adapters for site in sites}) == len(sites)
    assert {site.layer for site in sites} == set(layers) == set(range(len(layers)))
    runs = Counter[str]()
    for path in layers.values():
        model.get_submodule(path).register_forward_hook(lambda *_, path=path: runs.update([path]))
    handle.add("a", "houlsby", cross_adapter=True)
    counted = Counter[str]()
    for part in handle.adapters["a"].parts.values():
        monkeypatch.setattr(part, "change", counting(part.site.adapters, part.change, counted))
    for before in (False, True):  # the short form, and the one that captures residuals
        for part in handle.adapters["a"].parts.values():
            object.__setattr__(part.config, "original_ln_before", before)
        handle._plans.clear()
        handle.activate(None)
        counted.clear()
        runs.clear()
        handle.activate("a")
        run(model, family)
        assert counted == {site.adapters: runs[layers[site.layer]] for site in sites}
    assert isinstance(handle._hooks.plan, Plan)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_save_and_read_are_exact(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    handle: Any = adpm.attach(model)
    fresh = adpm.attach(model_of(family))
    for method in ("houlsby", "lora", "ia3"):
        add(handle, method, method)
        handle.save(method, tmp_path / method)
        fresh.read(tmp_path / method, method)
        first = dict(handle.adapters[method].named_parameters())
        second = dict(fresh.adapters[method].named_parameters())
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        handle.activate(method)
        fresh.activate(method)
        assert same(run(model, family), run(fresh.model, family))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_gradients_reach_the_adapter_and_only_it(family: str) -> None:
    model = model_of(family)
    handle: Any = adpm.attach(model)
    for method in ("parallel", "lora"):
        add(handle, method, method)
        handle.train(method)
        model.zero_grad()
        out = model(**model_inputs(SMALL[family].kind))
        losses = [value.float().pow(2).sum() for value in tensors_of(out).values() if value.requires_grad]
        loss: Any = torch.stack(losses).sum()
        loss.backward()
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        own = {f"adpm.adapters.{method}.{name}" for name, _ in handle.adapters[method].named_parameters()}
        assert reached == own


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_invertible_adapters_act_on_the_embeddings(family: str) -> None:
    model = model_of(family)
    bare = run(model, family)
    handle: Any = adpm.attach(model)
    if not FAMILIES[family].embeddings.invertible:
        with pytest.raises(AdpmError) as error:
            handle.add("a", "pfeiffer+inv")
        assert error.value.code == "method-unsupported"
        return
    handle.add("a", "pfeiffer+inv")
    for name, parameter in handle.adapters["a"].named_parameters():
        parameter.data = torch.randn(parameter.shape) * 0.3 if name.startswith("inverse") else parameter * 0
    handle.activate("a")
    assert not same(run(model, family), bare)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_live_model_is_what_its_files_say(family: str, tmp_path: Path) -> None:
    """Also where a release of transformers renames what it reads from the files."""
    model = model_of(family)
    model.save_pretrained(tmp_path)
    identity = identify(type(model).from_pretrained(tmp_path))
    assert (identity.shape, identity.sketch) == read_model(tmp_path)
    assert identity.sketch is not None


def test_layers_are_counted_through_encoder_and_decoder() -> None:
    """As AdapterHub's ``leave_out`` and ``reduction_factor`` count them."""
    handle: Any = adpm.attach(model_of("bart"))
    handle.add("a", "pfeiffer", leave_out=[0, 3], reduction_factor={"2": 8, "default": 4})
    keys = {key: tuple(part["down_weight"].shape) for key, part in handle.adapters["a"].parts.items()}
    assert keys == {"encoder/layers/1/output_adapters": (8, 32), "decoder/layers/0/output_adapters": (4, 32)}


def test_parts_of_an_encoder_decoder_model_alone() -> None:
    import transformers  # noqa: PLC0415 - only here

    for family, name, layers in (("t5", "T5EncoderModel", 2), ("bart", "BartForCausalLM", 2)):
        small = SMALL[family]
        config = getattr(transformers, f"{small.word}Config")(**small.settings)
        model = getattr(transformers, name)(config).eval()
        anatomy = Anatomy(model)
        assert [number for number, _ in anatomy.layers()] == list(range(layers))
        handle: Any = adpm.attach(model)
        add(handle, "a", "houlsby")
        bare = run_ids(model)
        with handle.using("a"):
            assert not torch.equal(run_ids(model), bare)


def run_ids(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=model_inputs("text")["input_ids"])[0]
    return found


def test_a_model_with_a_head_has_its_base_s_sites() -> None:
    import transformers  # noqa: PLC0415 - only here

    for family, suffix in (("gpt2", "LMHeadModel"), ("llama", "ForCausalLM"), ("gemma3_text", "ForCausalLM")):
        word = "Gemma3" if family == "gemma3_text" else SMALL[family].word
        config = SMALL[family].model().config
        model = getattr(transformers, f"{word}{suffix}")(config).eval()
        handle: Any = adpm.attach(model)
        add(handle, "a", "houlsby")
        assert {len(key.split("/")) > 2 for key in handle.adapters["a"].parts} == {True}
        bare = run_ids(model)
        with handle.using("a"):
            assert not torch.equal(run_ids(model), bare)


def test_a_fused_layer_refuses_what_it_can_t_do() -> None:
    handle: Any = adpm.attach(model_of("gpt2"))
    for method in ("dora", "vera"):
        with pytest.raises(AdpmError) as error:
            handle.add(method, method)
        assert error.value.code == "method-unsupported"
    handle.add("lo", "lora")
    with pytest.raises(AdpmError) as error:
        handle.save("lo", "nowhere", format="peft")
    assert error.value.code == "format-unsupported"
    assert not Path("nowhere").exists()


def test_unequal_queries_and_keys_in_a_fused_layer() -> None:
    """Phi-3 with fewer keys than queries: the layer's parts have their own widths."""
    handle: Any = adpm.attach(model_of("phi3"))
    add(handle, "lora", "lora")
    part = handle.adapters["lora"].parts["layers/0/self_attn/qkv_proj"]
    assert part.sizes == (32, 16, 16)
    assert part["B"].shape == (64, 2)
