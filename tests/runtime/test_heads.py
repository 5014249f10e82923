"""Heads: what each gives and learns, whose turn it is, and that a random one is never silent."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification

import adpm
from adpm.errors import AdapterError, DocumentError, UsageError
from tests.parity.peers.small import SMALL, head_inputs
from tests.runtime.models import inputs, make, randomise

HEADS: dict[str, dict[str, Any]] = {
    "classification": {"num_labels": 3},
    "multilabel_classification": {"num_labels": 3, "use_pooler": True},
    "multiple_choice": {"num_choices": 3},
    "tagging": {"num_labels": 4},
    "question_answering": {},
    "image_classification": {"num_labels": 3, "multilabel": True},
    "causal_lm": {"layers": 2, "activation_function": "gelu", "layer_norm": True, "bias": True},
    "masked_lm": {},
    "seq2seq_lm": {"layers": 2, "activation_function": "prelu"},
    "dependency_parsing": {"num_labels": 3},
}
STARTS = torch.tensor([[1, 2, 4, 7, 0, 0, 0, 0, 0]] * 3)
ARCS = torch.tensor([[1, 2, 1, 0, 0, 0, 0, 0, 0]] * 3)
TARGETS: dict[str, dict[str, torch.Tensor]] = {
    "classification": {"labels": torch.tensor([0, 2, 1])},
    "multilabel_classification": {"labels": torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 1]])},
    "multiple_choice": {"labels": torch.tensor([2])},
    "tagging": {"labels": torch.arange(27).view(3, 9) % 4},
    "question_answering": {"start_positions": torch.tensor([1, 2, 0]), "end_positions": torch.tensor([3, 2, 40])},
    "image_classification": {"labels": torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 1]])},
    "causal_lm": {"labels": torch.arange(27).view(3, 9)},
    "masked_lm": {"labels": torch.arange(27).view(3, 9)},
    "seq2seq_lm": {"labels": torch.arange(27).view(3, 9)},
    "dependency_parsing": {"labels_arcs": ARCS, "labels_rels": ARCS % 3},
}


def with_head(kind: str, *, head: bool = False, name: str = "x", model: Any = None) -> Any:
    model = make(head=head) if model is None else model
    handle = model.adpm if hasattr(model, "adpm") else adpm.attach(model)
    handle.add(name, "pfeiffer", head={"head_type": kind, **HEADS[kind]})
    return model


def head_of(model: Any, name: str = "x") -> Any:
    return model.adpm.adapters[name].parts["head"]


def given(kind: str) -> dict[str, torch.Tensor]:
    more = {"word_starts": STARTS} if kind == "dependency_parsing" else {}
    return {**inputs(), **more}


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_every_head_learns(kind: str, head: bool) -> None:
    model = with_head(kind, head=head)
    torch.manual_seed(0)
    model.adpm.train("x")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    losses = []
    for _ in range(15):
        loss = model(**given(kind), **TARGETS[kind]).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    model.eval()
    bare = model(**given(kind))
    assert bare.loss is None
    tuples = model(**given(kind), **TARGETS[kind], return_dict=False)
    values = list(model(**given(kind), **TARGETS[kind]).values())
    assert torch.equal(tuples[0], values[0])
    assert torch.equal(tuples[1], values[1])


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_is_read_as_it_was_saved(kind: str, tmp_path: Path) -> None:
    model = with_head(kind)
    randomise(model.adpm, "x")
    model.adpm.save("x", tmp_path)
    again = make()
    handle = adpm.attach(again)
    handle.read(tmp_path, name="y")
    for one, name in ((model, "x"), (again, "y")):
        one.adpm.activate(name)
    with torch.no_grad():
        expected, found = model(**given(kind)), again(**given(kind))
    assert type(found) is type(expected)
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(found[key], value, atol=1e-6), key
    read: Any = handle.adapters["y"]
    assert read.source.head.label2id == model.adpm.adapters["x"].source.head.label2id


@pytest.mark.parametrize("kind", ["causal_lm", "masked_lm", "seq2seq_lm"])
def test_a_language_head_shares_the_embedding_of_a_tied_base(kind: str, tmp_path: Path) -> None:
    model = with_head(kind)
    randomise(model.adpm, "x")
    embedding, part = model.get_input_embeddings(), head_of(model)
    assert part["layer1_weight"] is embedding.weight
    assert not any(parameter.shape == embedding.weight.shape for parameter in model.adpm.adapters["x"].parameters())
    before = embedding.weight.clone()
    model.adpm.train("x")
    model(**inputs(), **TARGETS[kind]).loss.backward()
    assert not embedding.weight.requires_grad
    assert part["layer0_weight"].grad is not None
    assert torch.equal(embedding.weight, before)
    model.adpm.save("x", tmp_path)
    other = make()
    handle = adpm.attach(other)
    handle.read(tmp_path, name="y")
    for one in (other, copy.deepcopy(other)):
        assert head_of(one, "y")["layer1_weight"] is one.get_input_embeddings().weight

    path = tmp_path / "model_head.safetensors"
    tensors = load_file(path)
    (key,) = (key for key, value in tensors.items() if value.shape == embedding.weight.shape)
    save_file({**tensors, key: tensors[key] * 2}, path)
    handle.read(tmp_path, name="z")  # made on a base with another embedding
    assert torch.equal(head_of(other, "z")["layer1_weight"], before * 2)
    assert torch.equal(other.get_input_embeddings().weight, before)


def test_a_language_head_of_a_base_that_is_not_tied_is_its_own() -> None:
    model = make(tie_word_embeddings=False)
    handle = adpm.attach(model)
    handle.add("x", "pfeiffer", head={"head_type": "masked_lm"})
    weight = head_of(model)["layer1_weight"]
    assert weight is not model.get_input_embeddings().weight
    handle.train("x")
    assert weight.requires_grad


def test_a_language_head_is_read_where_the_embedding_has_no_values(tmp_path: Path) -> None:
    with_head("masked_lm").adpm.save("x", tmp_path)
    model = make().to("meta")
    adpm.attach(model).read(tmp_path, name="y")
    assert head_of(model, "y")["layer1_weight"].is_meta


def test_a_loss_counts_what_it_should() -> None:
    model = with_head("tagging")
    randomise(model.adpm, "x")
    model.adpm.activate("x")
    labels = TARGETS["tagging"]["labels"]
    out = model(**inputs(), labels=labels)
    mask = inputs()["attention_mask"] == 1
    expected = torch.nn.functional.cross_entropy(out.logits[mask], labels[mask])
    assert torch.allclose(out.loss, expected)
    model = with_head("causal_lm")
    randomise(model.adpm, "x")
    model.adpm.activate("x")
    words = inputs()["input_ids"]
    out = model(**inputs(), labels=words)
    expected = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), words[:, 1:].flatten())
    assert torch.allclose(out.loss, expected)


@pytest.mark.parametrize("head", [False, True])
def test_a_head_for_each_branch(head: bool) -> None:
    model = make(head=head)
    for name, kind in (("a", "classification"), ("b", "tagging")):
        with_head(kind, name=name, model=model)
        randomise(model.adpm, name, ord(name))
    model.adpm.add("none", "lora")
    alone = {}
    for name in ("a", "b"):
        with model.adpm.using(name), torch.no_grad():
            alone[name] = model(**inputs()).logits
    with model.adpm.using("parallel(a, b)"), torch.no_grad():
        out = model(**inputs(), labels=None)
    assert [tuple(one.logits.shape) for one in out.head_outputs] == [(3, 3), (3, 9, 4)]
    assert torch.allclose(out.head_outputs[0].logits, alone["a"], atol=1e-5)
    assert torch.allclose(out.head_outputs[1].logits, alone["b"], atol=1e-5)
    with model.adpm.using("batch(a: 2, b: 1)"), torch.no_grad():
        out = model(**inputs())
    assert torch.allclose(out.head_outputs[0].logits, alone["a"][:2], atol=1e-5)
    assert torch.allclose(out.head_outputs[1].logits, alone["b"][2:], atol=1e-5)
    with model.adpm.using(rows=["b", "none", "a"]), torch.no_grad():
        out = model(**inputs())
    assert torch.allclose(out.head_outputs[0].logits, alone["b"][:1], atol=1e-5)
    assert out.head_outputs[1].last_hidden_state.shape == (1, 9, 32)
    assert torch.allclose(out.head_outputs[2].logits, alone["a"][2:], atol=1e-5)


def test_losses_of_several_heads_add_up() -> None:
    model = make()
    for name in ("a", "b"):
        with_head("classification", name=name, model=model)
        randomise(model.adpm, name, ord(name))
    labels = torch.tensor([0, 2, 1])
    with model.adpm.using("parallel(a, b)"):
        out = model(**inputs(), labels=labels)
    assert torch.allclose(out.loss, sum(one.loss for one in out.head_outputs))
    assert out.logits.shape == (6, 3)
    with model.adpm.using("batch(a: 2, b: 1)"):
        out = model(**inputs(), labels=labels)
    first = torch.nn.functional.cross_entropy(out.head_outputs[0].logits, labels[:2])
    assert torch.allclose(out.head_outputs[0].loss, first)


def test_labels_are_the_active_head_s() -> None:
    model = make(head=True)
    own = dict(model.config.id2label)
    handle = adpm.attach(model)
    handle.add("a", head={"num_labels": 2, "label2id": {"no": 0, "yes": 1}})
    handle.add("b", head={"num_labels": 2})
    handle.activate("a")
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.label2id == {"no": 0, "yes": 1}
    handle.activate("b")
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    handle.activate("stack(b, a)")
    assert model.config.id2label == {0: "no", 1: "yes"}
    handle.add("words", head={"head_type": "masked_lm"})
    handle.activate("words")
    assert model.config.id2label == own
    handle.activate("a")
    handle.unload()
    assert model.config.id2label == own


def test_an_adapter_without_a_head_on_an_untrained_one_says_so(tmp_path: Path) -> None:
    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    sizes["num_labels"] = 3
    config = BertConfig(vocab_size=50, **sizes)
    torch.manual_seed(0)
    model: Any = BertForSequenceClassification(config)
    handle = adpm.attach(model)
    handle.add("plain", "pfeiffer")
    handle.add("headed", "pfeiffer", head=2)
    handle.add("saved", "peft_lora", target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    for name in handle.names:
        handle.save(name, tmp_path / name)
    with pytest.warns(UserWarning, match="classifier.*random"):
        handle.read(tmp_path / "plain", name="p")
    with pytest.warns(UserWarning, match="random"):
        handle.read(tmp_path / "headed", name="q", with_head=False)
    handle.read(tmp_path / "headed", name="h")
    handle.read(tmp_path / "saved", name="s")
    torch.nn.init.normal_(model.classifier.bias)
    handle.read(tmp_path / "plain", name="trained")


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ({"head_type": "sorting"}, "adapter-config-invalid"),
        ({"head_type": "tagging", "use_pooler": True}, "adapter-config-invalid"),
        ({"head_type": "question_answering", "num_labels": 3}, "adapter-config-invalid"),
        ({"head_type": "masked_lm", "vocab_size": 0}, "adapter-config-invalid"),
        ({"head_type": "masked_lm", "vocab_size": 30}, "head-invalid"),
        ({"head_type": "causal_lm", "layers": 2, "embedding_size": 16}, "head-invalid"),
    ],
)
def test_settings_that_no_head_has(head: dict[str, Any], code: str) -> None:
    handle = adpm.attach(make())
    with pytest.raises((DocumentError, AdapterError, UsageError)) as error:
        handle.add("x", head=head)
    assert error.value.code == code
    assert not handle.names


def test_a_head_of_one_layer_reads_what_the_model_has() -> None:
    handle = adpm.attach(make(tie_word_embeddings=False))
    with pytest.raises(AdapterError, match="states of 16 values"):
        handle.add("x", head={"head_type": "causal_lm", "embedding_size": 16})
    handle.add("x", head={"head_type": "causal_lm", "embedding_size": 16, "layers": 2, "vocab_size": 30})


@pytest.mark.parametrize("head", [False, True])
def test_choices_may_have_a_dimension_of_their_own(head: bool) -> None:
    model = with_head("multiple_choice", head=head)
    model.adpm.activate("x")
    rows = inputs(6)
    texts = {name: value.view(2, 3, -1) for name, value in rows.items()}
    labels = torch.tensor([2, 0])
    expected, found = model(**rows, labels=labels), model(**texts, labels=labels)
    assert found.logits.shape == (2, 3)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)
    by_place = model(texts["input_ids"], texts["attention_mask"])
    assert torch.equal(by_place.logits, expected.logits)


@pytest.mark.parametrize(("family", "tied"), [("t5", True), ("t5", False), ("mt5", False)])
def test_t5_s_states_are_scaled_where_it_is_tied(family: str, tied: bool) -> None:
    """In what a head reads of each token, as before the model's own; not in what it reads of a text."""
    model = SMALL[family].model(tie_word_embeddings=tied)
    given = head_inputs("pair", "classification", end=model.config.eos_token_id)
    with torch.no_grad():
        states = model(**given).last_hidden_state
    handle = adpm.attach(model)
    for kind in ("question_answering", "classification"):
        handle.add(kind, "lora", head={"head_type": kind, "layers": 1})  # which starts as no change
        with handle.using(kind), torch.no_grad():
            out = model(**given)
        weight = head_of(model, kind)["layer0_weight"].detach()
        if kind == "classification":
            assert torch.allclose(out.logits, states[:, 5] @ weight.T, atol=1e-6)
        else:
            read = states * model.config.d_model**-0.5 if tied else states
            assert torch.allclose(torch.stack((out.start_logits, out.end_logits), -1), read @ weight.T, atol=1e-6)


def test_a_parser_says_what_it_wants() -> None:
    model = with_head("dependency_parsing")
    model.adpm.activate("x")
    with pytest.raises(UsageError, match="word_starts"):
        model(**inputs())
