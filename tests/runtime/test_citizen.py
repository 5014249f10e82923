"""Adapters beside what transformers and torch do with a model: generate, pipelines, Trainer, compile, threads."""

from __future__ import annotations

import copy
import io
import threading
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

import adpm
from adpm.runtime.hooks import _Hook
from tests.parity.peers.small import SMALL, model_inputs, randomise, tensors_of

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # DeBERTa's, when imported

HEADS = {
    "gpt2": "LMHeadModel",
    "llama": "ForCausalLM",
    "gemma2": "ForCausalLM",
    "t5": "ForConditionalGeneration",
    "bart": "ForConditionalGeneration",
}


def adapted(family: str, suffix: str = "Model", **changes: Any) -> Any:
    """A model with random adapters: "ho" captures nothing, "pa" and "se" residuals, "lo" sits on linear layers."""
    torch.manual_seed(0)
    model = SMALL[family].model(suffix, **changes)
    randomise(model, 0.15)
    handle = adpm.attach(model)
    handle.add("ho", "houlsby", cross_adapter=True, reduction_factor=4)
    handle.add("pa", "par_bn", mh_adapter=True)
    handle.add("se", "pfeiffer", reduction_factor=4)
    handle.add("lo", "lora", attn_matrices=["q", "k", "v"], output_lora=True)
    generator = torch.Generator().manual_seed(1)
    for parameter in handle.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model


def run(model: Any, family: str) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return tensors_of(model(**model_inputs(SMALL[family].kind)))


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 1e-5) -> bool:
    return first.keys() == second.keys() and all(
        torch.allclose(first[key], second[key], atol=tolerance, rtol=tolerance) for key in first
    )


def our_hooks(model: Any) -> list[_Hook]:
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if isinstance(hook, _Hook)
    ]


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize("beams", [1, 2])
def test_generate_with_and_without_a_cache(family: str, beams: int) -> None:
    model = adapted(family, HEADS[family])
    ids = {"input_ids": model_inputs("text", padded=False)["input_ids"][:2]}
    ids["attention_mask"] = torch.ones_like(ids["input_ids"])
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    settings |= {"eos_token_id": None, "min_new_tokens": 6} if beams == 1 else {"min_new_tokens": 6}
    bare = model.generate(**ids, **settings)
    outcomes = []
    for composition in ("stack(ho, lo)", "pa"):
        with model.adpm.using(composition):
            cached = model.generate(**ids, **settings, use_cache=True)
            again = model.generate(**ids, **settings, use_cache=False)
        assert torch.equal(cached, again)
        outcomes.append(cached)
    assert not all(torch.equal(bare, outcome) for outcome in outcomes)


OTHERS: dict[str, dict[str, Any]] = {
    "prompt": {"config": "peft_prompt_tuning", "num_virtual_tokens": 3},
    "prefix": {"config": "peft_prefix_tuning", "num_virtual_tokens": 3},
    "ia3": {"config": "peft_ia3", "target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "vera": {"config": "peft_vera", "target_modules": ["q_proj", "v_proj"], "r": 4},
}


def adapted_by(name: str) -> Any:
    """A language model with one adapter of another method, ``x``, which is not active."""
    torch.manual_seed(0)
    model = SMALL["llama"].model("ForCausalLM")
    randomise(model, 0.15)
    adpm.attach(model).add("x", **OTHERS[name])
    generator = torch.Generator().manual_seed(1)
    for part in model.adpm.adapters["x"].parts.values():
        part.make_trainable()
    for parameter in model.adpm.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("beams", [1, 2])
def test_other_methods_generate_what_the_whole_pass_says(name: str, beams: int) -> None:
    """With a cache as without one; the greedy tokens are those that a pass over the finished text scores highest."""
    model = adapted_by(name)
    ids = {"input_ids": model_inputs("text", padded=False)["input_ids"][:2]}
    ids["attention_mask"] = torch.ones_like(ids["input_ids"])
    settings: dict[str, Any] = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": beams}
    settings |= {"pad_token_id": 0, "eos_token_id": None}
    bare = model.generate(**ids, **settings)
    model.adpm.activate("x")
    cached = model.generate(**ids, **settings, use_cache=True)
    assert torch.equal(cached, model.generate(**ids, **settings, use_cache=False))
    assert not torch.equal(cached, bare)
    if beams == 1:
        with torch.no_grad():
            scores = model(input_ids=cached, attention_mask=torch.ones_like(cached)).logits
        assert torch.equal(scores[:, -7:-1].argmax(-1), cached[:, -6:])


# What torch says to itself while it traces the masks of transformers 4.57.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_compile_whole(name: str) -> None:
    model = adapted_by(name)
    ids = model_inputs("text", padded=False)["input_ids"]
    model.adpm.activate("x")
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
        found = compiled(input_ids=ids, use_cache=False).logits
    reset: Any = torch.compiler.reset
    reset()
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_pipeline_runs_the_adapted_model() -> None:
    words = ["[PAD]", "[UNK]", "a", "fine", "poor", "film"]
    tokens = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokens.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    make: Any = transformers.PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=tokens, **special)
    model = adapted("bert", "ForSequenceClassification")
    kind = type(model)
    ask: Any = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    bare = ask("a fine film")[0]["score"]
    model.adpm.activate("ho")
    found = ask(["a fine film", "a poor film"])
    encoded = tokenizer(["a fine film", "a poor film"], return_tensors="pt")
    with torch.no_grad():
        expected = model(**encoded).logits.softmax(-1).max(-1).values
    assert torch.allclose(torch.tensor([row["score"] for row in found]), expected, atol=1e-6)
    assert abs(found[0]["score"] - bare) > 1e-4
    assert type(model) is kind


def test_trainer_trains_the_adapter_alone(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Trainer needs it")
    model = adapted("bert", "ForSequenceClassification")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.adpm.train("ho")
    inputs = model_inputs("text")
    rows = [{key: value[row] for key, value in inputs.items()} | {"labels": torch.tensor(row % 2)} for row in range(3)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, learning_rate=0.1, report_to=[], use_cpu=True, save_strategy="no"
    )
    transformers.Trainer(model=model, args=arguments, train_dataset=rows).train()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved
    assert all(name.startswith("adpm.adapters.ho.") for name in moved)


@pytest.mark.parametrize("family", ["bert", "llama", "t5", "vit"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.filterwarnings("ignore:`use_cache=True` is incompatible")
def test_gradient_checkpointing(family: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = adapted(family)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.adpm.train("stack(lo, ho, pa)")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with model.adpm.using("stack(ho, lo, pa)"):  # what this thread uses is what is computed again
            model(**model_inputs(SMALL[family].kind))[0].pow(2).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert gradients[0]
    for name, first in gradients[0].items():
        assert torch.allclose(first, gradients[1][name], atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize(
    "family", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "t5", "vit"))]
)
def test_compiled_whole(family: str) -> None:
    """One graph, without a break, for each composition; another composition is compiled anew.

    Without a mask for padding, which transformers 4.57 itself can't compile with newer releases of torch.
    """
    model = adapted(family)
    inputs = {key: value for key, value in model_inputs(SMALL[family].kind).items() if key != "attention_mask"}

    def run(model: Any) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return tensors_of(model(**inputs))

    expected = {}
    for composition in ("stack(lo, ho)", "pa"):
        with model.adpm.using(composition):
            expected[composition] = run(model)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    for composition, outputs in expected.items():
        model.adpm.activate(composition)
        assert close(run(compiled), outputs)
    with model.adpm.using("stack(lo, ho)"):
        assert close(run(compiled), expected["stack(lo, ho)"])
    reset: Any = torch.compiler.reset
    reset()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["bert", "llama", "bart"])
def test_other_precisions(family: str, dtype: torch.dtype) -> None:
    model = adapted(family)
    model.adpm.activate("stack(lo, ho, se)")
    expected = run(model, family)
    model.to(dtype)
    assert {parameter.dtype for parameter in model.adpm.parameters()} == {dtype}
    found = {key: value.float() for key, value in run(model, family).items()}
    tolerance = {torch.float64: 1e-4, torch.bfloat16: 0.3, torch.float16: 0.05}[dtype]
    assert close(found, expected, tolerance)
    model.adpm.add("new", "houlsby")
    assert {parameter.dtype for parameter in model.adpm.adapters["new"].parameters()} == {dtype}


@pytest.mark.parametrize("family", ["bert", "llama", "t5", "beit"])
def test_copies_and_stored_models_have_hooks_of_their_own(family: str) -> None:
    model = adapted(family)
    handle = model.adpm
    with handle.using("pa"):
        stored = io.BytesIO()
        torch.save(model, stored)
        expected = run(model, family)
        twin = copy.deepcopy(model)
    handle.unload()
    assert not our_hooks(model)
    stored.seek(0)
    for other in (twin, torch.load(stored, weights_only=False)):
        assert other.adpm is not handle
        assert other.adpm.model is other
        assert {id(hook.hooks) for hook in our_hooks(other)} == {id(other.adpm._hooks)}
        assert close(run(other, family), expected, 0.0)
        other.adpm.activate(None)
        assert not our_hooks(other)
        assert close(run(other, family), run(model, family), 0.0)


def test_eager_and_sdpa_are_the_same() -> None:
    for family in ("bert", "llama", "bart", "vit"):
        found = []
        for attention in ("eager", "sdpa"):
            model = adapted(family, attn_implementation=attention)
            model.adpm.activate("stack(lo, ho, pa)")
            found.append(run(model, family))
        assert close(found[0], found[1])


@pytest.mark.parametrize("family", ["bert", "llama", "vit"])
def test_flash_attention_is_the_same(family: str) -> None:
    """The kernel that torch has for CPUs, which takes no mask of padding."""
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415 - for this alone

    inputs = model_inputs(SMALL[family].kind, padded=False)
    inputs.pop("attention_mask", None)
    found = []
    for attention in ("eager", "sdpa"):
        model = adapted(family, attn_implementation=attention)
        model.adpm.activate("stack(lo, ho, pa)")
        with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            found.append(tensors_of(model(**inputs)))
    assert close(found[0], found[1])


def test_data_parallel_runs_the_adapted_model() -> None:
    model = adapted("bert")
    parallel = torch.nn.DataParallel(model)
    for composition in (None, "stack(ho, lo)", "pa"):
        with model.adpm.using(composition):
            assert close(run(parallel, "bert"), run(model, "bert"), 0.0)
    model.adpm.train("ho")
    parallel(**model_inputs("text"))[0].pow(2).mean().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached
    assert all(name.startswith("adpm.adapters.ho.") for name in reached)


def test_nothing_of_transformers_is_patched() -> None:
    """No class has another method, and no module a forward of its own, while adapters act and afterwards."""
    model = adapted("bert")
    kinds = {type(module) for module in model.modules() if not type(module).__module__.startswith("adpm")}
    before = {kind: dict(vars(kind)) for kind in kinds}
    for composition in ("stack(ho, lo)", "pa", None):
        model.adpm.activate(composition)
        run(model, "bert")
        assert all(dict(vars(kind)) == found for kind, found in before.items())
        assert not any("forward" in vars(module) for module in model.modules())
    assert {type(module) for module in model.modules()} >= kinds


def test_handles_on_two_models_do_not_meet() -> None:
    first, second = adapted("llama"), adapted("llama")
    bare = run(second, "llama")
    first.adpm.activate("ho")
    assert close(run(second, "llama"), bare, 0.0)
    second.adpm.activate("pa")
    expected = run(second, "llama")
    first.adpm.unload()
    assert close(run(second, "llama"), expected, 0.0)


def test_threads_run_one_model_under_compositions_of_their_own() -> None:
    model = adapted("bert")
    handle = model.adpm
    compositions = [None, "ho", "pa", "se", "lo", "stack(ho, lo)"]
    expected = {}
    for composition in compositions:
        with handle.using(composition):
            expected[composition] = run(model, "bert")
    handle.activate("se")
    wrong: list[str] = []
    together = threading.Barrier(len(compositions))

    def work(composition: str | None) -> None:
        together.wait()
        for _ in range(6):
            with handle.using(composition):
                if handle.active != composition and str(handle.active) != composition:
                    wrong.append(f"{handle.active} instead of {composition}")
                if not close(run(model, "bert"), expected[composition], 0.0):
                    wrong.append(f"the outputs of {composition}")
            if not close(run(model, "bert"), expected["se"], 0.0):
                wrong.append(f"the outputs after {composition}")

    threads = [threading.Thread(target=work, args=(composition,)) for composition in compositions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert handle.active == "se"
    handle.activate(None)
    assert not our_hooks(model)


def test_threads_with_masks_of_their_own_do_not_mix_them_up() -> None:
    """ReFT's first layer runs in one thread after another thread has begun a pass with another mask."""
    torch.manual_seed(0)
    model = SMALL["bert"].model()
    randomise(model, 0.15)
    handle = adpm.attach(model)
    handle.add("x", "loreft", suffix_positions=2)
    for name, parameter in handle.named_parameters():
        if "source" in name:
            parameter.data = torch.randn(parameter.shape)
    handle.activate("x")
    ids = model_inputs("text", padded=False)["input_ids"]
    masks = [torch.ones_like(ids), torch.ones_like(ids)]
    masks[1][:, 3:] = 0

    def states(mask: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return out

    expected = [states(mask) for mask in masks]
    together = threading.Barrier(2)

    def meet(*_: object) -> None:
        together.wait(60)

    hook = model.embeddings.register_forward_hook(meet)
    found: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        found[number] = states(masks[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hook.remove()
    assert not torch.allclose(expected[0], expected[1])
    assert all(torch.equal(found[i], expected[i]) for i in (0, 1))


def test_activating_inside_using_lasts_as_long_as_it() -> None:
    model = adapted("bert")
    handle = model.adpm
    handle.activate("ho")
    with handle.using("pa"):
        handle.activate("se")
        inside = [handle.active]
        with handle.disabled():
            inside.append(handle.active)
        inside.append(handle.active)
    assert inside == ["se", None, "se"]
    assert handle.active == "ho"


def test_the_class_and_the_state_dict() -> None:
    model = SMALL["llama"].model("ForCausalLM")
    kind, keys = type(model), set(model.state_dict())
    handle: Any = adpm.attach(model)
    handle.add("a", "houlsby")
    handle.activate("a")
    assert type(model) is kind
    assert set(model.state_dict()) - keys == {
        f"adpm.adapters.a.{name}" for name, _ in handle.adapters["a"].named_parameters()
    }
    fresh = SMALL["llama"].model("ForCausalLM")
    adpm.attach(fresh).add("a", "houlsby")
    fresh.load_state_dict(model.state_dict())
    fresh.adpm.activate("a")
    assert close(run(fresh, "llama"), run(model, "llama"), 0.0)
    handle.unload()
    assert set(model.state_dict()) == keys


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """DistributedDataParallel over gloo: both ranks hold the same adapter after a step, and it has moved."""
    port = tmp_path / "meet"
    processes: Any = torch.multiprocessing
    processes.spawn(_rank, args=(f"file://{port}", str(tmp_path)), nprocs=2, join=True)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = adapted("bert").state_dict()
    moved = {name for name in first if not torch.equal(first[name], start[name])}
    assert moved
    assert all(name.startswith("adpm.adapters.ho.") for name in moved)


def _rank(rank: int, meet: str, directory: str) -> None:
    from torch import distributed  # noqa: PLC0415 - a process of its own

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    model = adapted("bert")
    model.adpm.train("ho")
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    parallel(**model_inputs("text", seed=rank))[0].pow(2).mean().backward()
    optimizer.step()
    torch.save(model.state_dict(), f"{directory}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_int8_linear_layers() -> None:
    quantization: Any = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    torch.manual_seed(0)
    model = SMALL["llama"].model()
    randomise(model, 0.15)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    bare = run(model, "llama")
    handle: Any = adpm.attach(model)
    handle.add("lo", "lora", output_lora=True)
    handle.add("pe", "peft_lora", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    handle.add("pa", "par_bn")
    for parameter in handle.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2
    for name in ("lo", "pe", "pa"):
        with handle.using(name):
            assert not close(run(model, "llama"), bare)
        assert close(run(model, "llama"), bare, 0.0)
    handle.unload()
    assert close(run(model, "llama"), bare, 0.0)
