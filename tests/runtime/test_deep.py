"""What of PEFT's acts on a whole decoder: invocations, adaption prompts, replicated layers, parameters of experts."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adpm
from adpm.errors import AdapterError, CompositionError, DocumentError
from adpm.runtime.methods.calls import Call, cache_of
from tests.parity.peers.peer import peer
from tests.parity.peers.small import SMALL
from tests.runtime.models import inputs, outputs, randomise
from tests.runtime.test_methods import far
from tests.runtime.test_round_trip import check_peer

INVOKED = [7, 9]
TARGETS = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "mistral": ["q_proj", "v_proj"]}
METHODS: dict[str, dict[str, Any]] = {
    "adaption": {"config": "peft_adaption_prompt", "adapter_len": 3, "adapter_layers": 1},
    "activated": {"config": "peft_lora", "alora_invocation_tokens": INVOKED, "task_type": "CAUSAL_LM"},
    "replicated": {"config": "peft_lora", "layer_replication": [[0, 2], [0, 1]]},
}


def decoder(family: str = "llama", suffix: str = "ForCausalLM") -> Any:
    torch.manual_seed(0)
    word = {"gpt2": "LMHeadModel"}.get(family, suffix) if suffix == "ForCausalLM" else suffix
    model = SMALL[family].model(word)
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter) * 0.15
        norm = any(part in name for part in ("norm", "ln_")) and name.endswith("weight")
        parameter.data = noise + 1 if norm else noise
    return model.eval()


def settings(method: str, family: str) -> dict[str, Any]:
    found = METHODS[method]
    return found if found["config"] != "peft_lora" else {"target_modules": TARGETS[family], **found}


def adapted(method: str, family: str = "llama") -> Any:
    model = decoder(family)
    adpm.attach(model).add("x", **settings(method, family))
    randomise(model.adpm, "x")
    for name, parameter in model.adpm.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(3.0)
    return model


def invoked() -> dict[str, torch.Tensor]:
    """The first row is invoked twice, the second once at its end, the third half, before its padding."""
    found = inputs()
    ids = found["input_ids"]
    ids[ids == INVOKED[0]] = 8
    ids[0, 1:3] = ids[0, 5:7] = ids[1, 7:9] = torch.tensor(INVOKED)
    ids[2, 1:3] = torch.tensor([INVOKED[0], 8])
    return found


def logits(model: Any, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**{**invoked(), **more}).logits
    return found


@pytest.mark.parametrize(
    ("method", "family"),
    [
        ("adaption", "llama"),
        ("adaption", "mistral"),
        ("adaption", "gpt2"),
        ("activated", "llama"),
        ("activated", "gpt2"),
        ("replicated", "llama"),
        ("replicated", "mistral"),
    ],
)
def test_it_acts_and_is_saved_exactly(method: str, family: str, tmp_path: Path) -> None:
    model = decoder(family)
    bare, state = outputs(model), list(model.state_dict())
    with torch.no_grad():
        model = adapted(method, family)
    assert far(outputs(model), bare) == 0
    handle = model.adpm
    handle.activate("x")
    with torch.no_grad():
        expected = model(**invoked(), output_hidden_states=True)
    assert float((expected.logits - logits(decoder(family))).abs().max()) > 1e-3
    handle.save("x", tmp_path)
    other = decoder(family)
    adpm.attach(other).read(tmp_path, name="x")
    other.adpm.activate("x")
    assert float((logits(other) - expected.logits).abs().max()) < 1e-5
    other.adpm.save("x", tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    with handle.disabled():
        assert far(outputs(model), bare) == 0
    assert far(outputs(handle.unload()), bare) == 0
    assert list(model.state_dict()) == state


@pytest.mark.parametrize("method", ["adaption", "activated", "replicated"])
def test_gradients_reach_the_adapter_and_only_it(method: str) -> None:
    model = adapted(method)
    model.adpm.train("x")
    model(**invoked()).logits.square().sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in model.adpm.adapters["x"].parameters()}
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trained)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ["adaption", "activated", "replicated"])
def test_generation_with_a_cache_gives_what_it_gives_without(method: str, family: str) -> None:
    model = adapted(method, family)
    model.adpm.activate("x")
    batch = {name: value[:2] for name, value in invoked().items()}
    with torch.no_grad():
        found = [
            model.generate(**batch, max_new_tokens=6, use_cache=cached, do_sample=False, pad_token_id=0)
            for cached in (True, False)
        ]
        beams = model.generate(**batch, max_new_tokens=4, num_beams=3, do_sample=False, pad_token_id=0)
        model.adpm.activate(None)
        bare = model.generate(**batch, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(found[0], found[1])
    assert beams.shape[0] == 2
    assert not torch.equal(found[0], bare)


def test_an_invocation_acts_from_where_it_begins_last() -> None:
    model = adapted("activated")
    bare = logits(model)
    model.adpm.activate("x")
    moved = (logits(model) - bare).abs().amax(dim=-1) > 1e-6
    assert moved[0].tolist() == [False] * 5 + [True] * 4
    assert moved[1].tolist() == [False] * 7 + [True] * 2
    assert not moved[2].any()
    vectors = model.get_input_embeddings()(invoked()["input_ids"])
    with torch.no_grad():
        found = model(inputs_embeds=vectors, attention_mask=invoked()["attention_mask"]).logits
    assert float((found - bare).abs().max()) < 1e-5


def test_a_cache_of_the_bare_base_serves_an_invocation() -> None:
    """What aLoRA is for: the cache before the invocation is the base's own."""
    model = adapted("activated")
    ids = invoked()["input_ids"][1:2]
    handle = model.adpm
    handle.activate("x")
    with torch.no_grad():
        expected = model(input_ids=ids).logits[:, 7:]
        handle.activate(None)
        cache = cache_of(model(input_ids=ids[:, :7], use_cache=True))
        handle.activate("x")
        found = model(input_ids=ids[:, 7:], **{str(Call(model).cache): copy.deepcopy(cache)}).logits
    assert float((found - expected).abs().max()) < 1e-5


def test_each_row_has_its_own_invocation() -> None:
    model = adapted("activated")
    handle = model.adpm
    handle.add("y", **{**settings("activated", "llama"), "alora_invocation_tokens": [9]})
    handle.add("z", "peft_lora", target_modules=["q_proj"])
    for seed, name in enumerate("yz"):
        randomise(handle, name, seed)
    alone = {}
    for name in "xyz":
        with handle.using(name):
            alone[name] = logits(model)
    handle.activate(rows=["z", "x", "y"])
    found = logits(model)
    for row, name in enumerate("zxy"):
        assert float((found[row] - alone[name][row]).abs().max()) < 1e-5
    handle.activate("batch(x: 1, stack(y, z): 2)")
    found = logits(model)
    assert float((found[0] - alone["x"][0]).abs().max()) < 1e-5
    handle.activate("parallel(x, y)")
    found = logits(model)
    for place, name in enumerate("xy"):
        assert float((found[3 * place : 3 * place + 3] - alone[name]).abs().max()) < 1e-5
    with pytest.raises(CompositionError, match="split"):
        handle.activate("split(x: 4, y: 5)")


@pytest.mark.parametrize("method", ["adaption", "activated", "replicated"])
def test_what_is_no_change_of_a_weight_is_not_merged(method: str) -> None:
    model = adapted(method)
    with pytest.raises(AdapterError) as error:
        model.adpm.merge("x")
    assert error.value.code == "merge-unsupported"


@pytest.mark.parametrize("method", ["activated", "replicated"])
def test_what_adapterhub_can_t_say_is_refused(method: str, tmp_path: Path) -> None:
    model = adapted(method)
    with pytest.raises(AdapterError) as error:
        model.adpm.save("x", tmp_path / "out", format="adapterhub")
    assert error.value.code == "format-unsupported"


def test_adaption_prompts_of_a_stack_add_up() -> None:
    model = adapted("adaption")
    handle = model.adpm
    handle.add("y", **{**METHODS["adaption"], "adapter_layers": 2})
    randomise(handle, "y", 5)
    handle.activate("stack(x, y)")
    found = logits(model)
    handle.activate("stack(y, x)")
    assert float((logits(model) - found).abs().max()) < 1e-5
    handle.activate("y")
    assert float((logits(model) - found).abs().max()) > 1e-3
    with pytest.raises(CompositionError):
        handle.activate(rows=["x", "y", None])


def test_replicas_are_the_layers_while_they_act() -> None:
    model = adapted("replicated")
    handle = model.adpm
    own = list(model.model.layers)
    with handle.using("x"):
        assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2]
        assert model.config.num_hidden_layers == 3
        assert model.model.layers[2].mlp.up_proj.weight is own[0].mlp.up_proj.weight
        assert len(outputs(model)) == 5  # scores and the states around three layers
        model.train()
    assert list(model.model.layers) == own
    assert model.config.num_hidden_layers == 2
    assert all(module.training for module in model.model.modules())
    model.eval()
    handle.add("plain", "peft_lora", target_modules=["q_proj"])
    with pytest.raises(CompositionError, match="different layers"):
        handle.activate("stack(x, plain)")
    handle.activate("x")
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), logits(model))
    twin.adpm.unload()
    assert len(twin.model.layers) == 2
    assert len(model.model.layers) == 3
    model.to(torch.bfloat16)
    assert logits(model).dtype == torch.bfloat16
    handle.unload()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_threads_do_not_share_a_model_with_replicas() -> None:
    model = adapted("replicated")
    handle = model.adpm
    handle.add("plain", "peft_lora", target_modules=["q_proj"])
    errors: list[CompositionError] = []

    def other() -> None:
        try:
            with handle.using("plain"):
                pass
        except CompositionError as error:
            errors.append(error)

    with handle.using("x"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert [error.code for error in errors] == ["composition-unsupported"]


def test_layers_that_are_not_there_are_refused() -> None:
    handle = adpm.attach(decoder())
    for value, error in (([[0, 3]], AdapterError), ([[1, 1]], DocumentError), ([[0, 1, 2]], DocumentError)):
        with pytest.raises(error):
            handle.add("x", "peft_lora", target_modules=["q_proj"], layer_replication=value)
    with pytest.raises(AdapterError, match="layers"):
        adpm.attach(nn.Sequential(nn.Linear(4, 4))).add(
            "x", "peft_lora", target_modules=["0"], layer_replication=[[0, 1]]
        )


def tying(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = SMALL["llama"].model("ForCausalLM", tie_word_embeddings=True)
    adpm.attach(model).add("x", "peft_lora", ensure_weight_tying=True, **settings)
    return model


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_alpha": 3, "rank_pattern": {"q_proj": 2}}])
@pytest.mark.parametrize("named", ["embed_tokens", "lm_head"])
def test_an_output_layer_has_the_pair_of_its_embedding(named: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = tying(target_modules=["q_proj", named], **settings)
    handle = model.adpm
    randomise(handle, "x")
    parts = handle.adapters["x"].parts
    head, embedding = parts["lm_head"], parts["model/embed_tokens"]
    assert torch.equal(head["A"], embedding["B"].T)
    assert torch.equal(head["B"], embedding["A"].T)
    handle.activate("x")
    expected = logits(model)
    handle.save("x", tmp_path)
    other = tying(target_modules=["q_proj", named], **settings)
    other.adpm.read(tmp_path, name="y")
    other.adpm.activate("y")
    assert float((logits(other) - expected).abs().max()) < 1e-5
    other.adpm.save("y", tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    handle.train("x")
    model(**invoked()).logits.square().sum().backward()
    trained = [p for p in handle.adapters["x"].parameters() if p.requires_grad]
    assert len(trained) == len(list(handle.adapters["x"].parameters()))
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trained)


def test_a_saved_embedding_is_the_output_layer_s_too(tmp_path: Path) -> None:
    model = tying(target_modules=["q_proj"], modules_to_save=["lm_head"])
    handle = model.adpm
    parts = handle.adapters["x"].parts
    head, embedding = parts["lm_head/module"], parts["model/embed_tokens/module"]
    assert head["weight"] is embedding["weight"]
    embedding["weight"].data.normal_(std=0.1)
    handle.activate("x")
    expected = logits(model)
    handle.save("x", tmp_path)
    handle.read(tmp_path, name="y")
    handle.activate("y")
    assert float((logits(model) - expected).abs().max()) < 1e-5
    parts = handle.adapters["y"].parts
    assert parts["lm_head/module"]["weight"] is parts["model/embed_tokens/module"]["weight"]


def test_nothing_is_tied_that_does_not_share_a_weight() -> None:
    handle = adpm.attach(decoder())
    handle.add("x", "peft_lora", target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True)
    adapter: Any = handle.adapters["x"]
    assert "lm_head" not in adapter.parts


@pytest.mark.filterwarnings("ignore:.*looks untrained")  # the rest of the head, which is the model's own
def test_a_saved_embedding_takes_the_bias_of_its_output_layer(tmp_path: Path) -> None:
    model = SMALL["roberta"].model("ForCausalLM", is_decoder=True, tie_word_embeddings=True).eval()
    torch.manual_seed(0)
    model.lm_head.bias.data.normal_()
    handle = adpm.attach(model)
    saved = ["embed_tokens", "word_embeddings"]
    handle.add("x", "peft_lora", target_modules=["query"], modules_to_save=saved, ensure_weight_tying=True)
    with torch.no_grad():
        bare = model(**inputs(2, 7)).logits
        with handle.using("x"):
            assert torch.allclose(model(**inputs(2, 7)).logits, bare - model.lm_head.bias, atol=1e-5)
    handle.save("x", tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert {"base_model.model.lm_head.decoder.weight", "base_model.model.lm_head.decoder.bias"} & names == {
        "base_model.model.lm_head.decoder.weight"
    }
    handle.read(tmp_path, name="y")


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_virtual_tokens_are_what_the_layers_get(family: str) -> None:
    """Behind the factor of Gemma 2's embeddings, whether the embeddings multiply with it or the model does."""
    model = SMALL[family].model().eval()
    handle = adpm.attach(model)
    handle.add("x", "peft_prompt_tuning", num_virtual_tokens=3)
    with handle.using("x"), torch.no_grad():
        found = model(**inputs(2, 7), output_hidden_states=True).hidden_states[0]
    assert found.shape[1] == 10
    adapter: Any = handle.adapters["x"]
    assert torch.allclose(found[0, :3], adapter.parts["prompt/vectors"]["vectors"], atol=1e-6)


class Experts(nn.Module):
    """Two matrices for each of three experts; ``is_transposed`` as transformers has it."""

    def __init__(self, *, is_transposed: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.is_transposed = is_transposed
        self.up = nn.Parameter(torch.randn(3, 8, 6) if is_transposed else torch.randn(3, 6, 8))
        self.down = nn.Parameter(torch.randn(3, 6, 8) if is_transposed else torch.randn(3, 8, 6))
        self.bias = nn.Parameter(torch.randn(8))
        self.fail = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fail:
            raise ArithmeticError
        up, down = (self.up, self.down) if self.is_transposed else (self.up.mT, self.down.mT)
        return (x @ up).relu() @ down + self.bias


class Mixture(nn.Module):
    def __init__(self, *, is_transposed: bool) -> None:
        super().__init__()
        self.experts = Experts(is_transposed=is_transposed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.experts(x).sum(dim=0)
        return out


@pytest.mark.parametrize("is_transposed", [False, True])
def test_each_expert_has_a_pair_of_its_own(is_transposed: bool, tmp_path: Path) -> None:
    model = Mixture(is_transposed=is_transposed).eval()
    x = torch.randn(5, 8)
    bare = model(x)
    handle = adpm.attach(model)
    targets: dict[str, Any] = {
        "target_modules": [],
        "target_parameters": ["experts.up", "experts.down"],
        "r": 2,
        "lora_alpha": 6,
    }
    handle.add("x", "peft_lora", **targets)
    randomise(handle, "x")
    handle.save("x", tmp_path)
    found = handle.adapters["x"]
    copied = Mixture(is_transposed=is_transposed).eval()
    for word in ("up", "down"):
        a, b = (found.state_dict()[f"experts/{word}/{name}"] for name in "AB")
        weight = getattr(copied.experts, word)
        for expert in range(3):
            change = 3 * b[:, expert::3] @ a[2 * expert : 2 * expert + 2]
            weight.data[expert] += change.T if is_transposed else change
    handle.activate("x")
    assert torch.allclose(model(x), copied(x), atol=1e-5)
    assert torch.equal(model.state_dict()["experts.up"], model.experts.up)
    seen: list[torch.Tensor] = []
    with handle.disabled():
        assert torch.equal(model(x), bare)
    model.experts.fail = True
    with pytest.raises(ArithmeticError):
        model(x)
    model.experts.fail = False
    thread = threading.Thread(target=lambda: seen.append(model.experts.up.detach()))
    thread.start()
    thread.join()
    assert type(model.experts.__dict__["_parameters"]) is dict
    handle.add("y", "peft_lora", **targets)
    randomise(handle, "y", 7)
    handle.activate("stack(x, y)")
    both = model(x)
    handle.activate("stack(y, x)")
    assert torch.allclose(model(x), both, atol=1e-5)
    handle.train("x")
    model(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in handle.adapters["x"].parameters())
    assert model.experts.up.grad is None
    with pytest.raises(AdapterError, match="merge"):
        handle.merge("x")
    assert torch.equal(handle.unload()(x), bare)
    other = adpm.attach(Mixture(is_transposed=is_transposed).eval())
    other.read(tmp_path, name="x")
    ours, theirs = found.state_dict(), other.adapters["x"].state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_parameters_that_are_no_matrices_are_refused() -> None:
    handle = adpm.attach(Mixture(is_transposed=False))
    for names, word in ((["experts.bias"], "shape"), (["experts.gate"], "nothing in Mixture")):
        with pytest.raises(AdapterError, match=word):
            handle.add("x", "peft_lora", target_modules=[], target_parameters=names)
    handle.add("x", "peft_lora", target_modules=[], target_parameters=["up"])
    with pytest.raises(CompositionError, match="whole pass"):
        handle.activate(rows=["x", None])


def test_starts_that_changed_the_base_say_what_to_do() -> None:
    handle = adpm.attach(decoder())
    for way in ("corda", "loftq"):
        with pytest.raises(AdapterError, match="changed the base") as error:
            handle.add("x", "peft_lora", target_modules=["q_proj"], init_lora_weights=way)
        assert "init_lora_weights: true" in str(error.value.hint)


@pytest.mark.slow
def test_peft_reads_what_adpm_saves(tmp_path: Path) -> None:
    """All but replicas of GPT-2's layers, which the peer does not find."""
    python = peer("ADPM_PEFT_PYTHON")
    models = {
        f"{method}-{family}": adapted(method, family)
        for method in ("adaption", "activated", "replicated")
        for family in TARGETS
        if (method, family) != ("replicated", "gpt2")
    }
    for number, more in enumerate(({"target_modules": ["embed_tokens"]}, {"modules_to_save": ["embed_tokens"]})):
        model = models[f"tied-{number}"] = tying(**{"target_modules": ["q_proj"], **more})
        randomise(model.adpm, "x")
    for name, model in models.items():
        directory = tmp_path / name
        model.adpm.save("x", directory / "adapter")
        model.adpm.activate("x")
        save_file({"logits": logits(model)}, directory / "outputs.safetensors")
        save_file(invoked(), directory / "inputs.safetensors")
        model.adpm.unload().save_pretrained(directory / "base")
        (directory / "base_class.txt").write_text(type(model).__name__, "utf-8")
    check_peer(python, sorted(tmp_path.iterdir()))
