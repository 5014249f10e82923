"""``adpm.load`` on a real lock and store: what it puts on a model, and what it refuses before touching one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

import adpm
from adpm.cli.main import run
from adpm.errors import AdpmError, BaseMismatchError, IntegrityError, NotFoundError
from adpm.formats.lock import read_lock
from tests.making import make_adapter


def model_of(seed: int, layers: int = 2) -> Any:
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64, vocab_size=100
    )
    model: Any = BertModel(config)
    return model.eval()


def call(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        run([str(argument) for argument in arguments])
    assert exit_.value.code == 0


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A locked and installed project with two adapters, one of which requires the other."""
    monkeypatch.setenv("ADPM_HOME", str(tmp_path / "home"))
    base, root = tmp_path / "base", tmp_path / "project"
    model_of(0).save_pretrained(base)
    root.mkdir()
    for name, requires, seed in (("lang/en", (), 1), ("text/sst-2", ("lang/en",), 2)):
        directory = make_adapter(tmp_path / name, name, base=base, requires=requires, seed=seed)
        call("publish", directory, "--registry", tmp_path / "registry", "--init")
    manifest = {
        "base": {"path": "../base"},
        "registries": [{"name": "here", "url": "../registry"}],
        "adapters": {"sst": "text/sst-2"},
        "compose": {"default": "stack(lang/en, sst)"},
    }
    (root / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    call("-C", root, "lock")
    call("-C", root, "install", "--locked")
    return root


TOKENS = torch.arange(12).reshape(2, 6)


def states(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(TOKENS).last_hidden_state
    return out


def test_the_default_composition_is_active(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(0)
    bare = states(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.chdir(project)
    adapters = adpm.load(model)
    assert type(model) is BertModel
    assert adapters.names == ("sst", "lang/en")
    assert str(adapters.active) == "stack(lang/en, sst)"
    stacked = states(model)
    adapters.activate("sst")
    alone = states(model)
    assert not torch.allclose(stacked, bare)
    assert not torch.allclose(stacked, alone)
    with adapters.disabled():
        assert torch.equal(states(model), bare)
    with adapters.using("default"):
        assert torch.equal(states(model), stacked)
    adapters.unload()
    assert torch.equal(states(model), bare)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bf16_copy_of_the_base_is_the_base(project: Path) -> None:
    adapters = adpm.load(model_of(0).to(torch.bfloat16), project)
    assert adapters.active is not None


def test_the_wrong_base_is_refused_before_it_is_touched(project: Path) -> None:
    other = model_of(1)
    bare = states(other)
    with pytest.raises(BaseMismatchError, match="other weights") as caught:
        adpm.load(other, project)
    assert caught.value.code == "base-mismatch"
    assert not hasattr(other, "adpm")
    assert torch.equal(states(other), bare)
    deeper = model_of(0, layers=3)
    with pytest.raises(BaseMismatchError, match="trained for 2 layers; this model has 3"):
        adpm.load(deeper, project)


def test_every_byte_is_hashed_once_and_mapped_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counted(data: memoryview) -> object:
        hashed.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr("adpm.store.get.hashlib", SimpleNamespace(sha256=counted))
    adpm.load(model_of(0), project)
    packages = read_lock((project / "adapter.lock").read_bytes(), "the lock").packages.values()
    sizes = [blob.size for package in packages for blob in (package.card, *(file.blob for file in package.files))]
    assert sorted(hashed) == sorted(sizes)


def test_a_damaged_object_is_never_parsed(project: Path, tmp_path: Path) -> None:
    lock = json.loads((project / "adapter.lock").read_text(encoding="utf-8"))
    digest = lock["packages"]["text/sst-2"]["files"]["adapter.safetensors"]["digest"].removeprefix("sha256:")
    victim = tmp_path / "home" / "objects" / "sha256" / digest[:2] / digest[2:]
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    model = model_of(0)
    with pytest.raises(IntegrityError) as caught:
        adpm.load(model, project)
    assert caught.value.code == "object-corrupt"
    assert not hasattr(model, "adpm")
    with pytest.raises(NotFoundError) as missing:
        adpm.load(model, project)
    assert missing.value.code == "object-missing"
    assert "adpm install" in str(missing.value.hint)
    call("-C", project, "install")
    assert adpm.load(model, project).active is not None


def test_no_lock(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        adpm.load(model_of(0), tmp_path)
    assert caught.value.code == "lock-not-found"


def test_a_single_adapter_is_active_by_itself(project: Path) -> None:
    path = project / "adapter.yaml"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["compose"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    call("-C", project, "lock")
    assert adpm.load(model_of(0), project).active == "sst"


@pytest.fixture
def two_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A locked and installed project with an adapter for each of two bases."""
    monkeypatch.setenv("ADPM_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    root.mkdir()
    for layers in (2, 3):
        model_of(0, layers).save_pretrained(tmp_path / f"base{layers}")
        directory = make_adapter(
            tmp_path / f"sst{layers}", "text/sst-2", f"{layers}.0", base=tmp_path / f"base{layers}", layers=layers
        )
        call("publish", directory, "--registry", tmp_path / "registry", "--init")
    manifest = {
        "bases": {"two": {"path": "../base2"}, "three": {"path": "../base3"}},
        "registries": [{"name": "here", "url": "../registry"}],
        "adapters": {
            "a": {"package": "text/sst-2", "base": "two"},
            "b": {"package": "text/sst-2", "base": "three"},
            "c": {"package": "text/sst-2", "base": "three", "slot": "c"},
        },
        "compose": {"three": "c", "default": "a"},
    }
    (root / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    call("-C", root, "lock")
    call("-C", root, "install", "--locked")
    return root


def test_of_several_bases_the_models_own_counts(two_bases: Path) -> None:
    for layers, names, active in ((2, ["a"], "a"), (3, ["b", "c"], "c")):
        adapters = adpm.load(model_of(0, layers), two_bases)
        assert list(adapters.adapters) == names
        assert adapters.active == active
        adapters.unload()
    adapters = adpm.load(model_of(0, 3), two_bases, base="three")
    assert set(adapters.compositions) == {"three"}
    with pytest.raises(BaseMismatchError, match="this model is none of the bases") as caught:
        adpm.load(model_of(1, 4), two_bases)
    assert "three: trained for 3 layers; this model has 4" in (caught.value.cause or "")
    for base, code in (("two", "base-mismatch"), ("four", "base-ambiguous")):
        with pytest.raises(AdpmError) as wrong:
            adpm.load(model_of(0, 3), two_bases, base=base)
        assert wrong.value.code == code


def test_adapters_of_a_group_are_loaded_when_they_are_asked_for(project: Path) -> None:
    manifest = json.loads((project / "adapter.yaml").read_text(encoding="utf-8"))
    manifest["groups"] = {"dev": {"en": "lang/en"}}
    manifest["compose"] = {"default": "sst", "both": "stack(en, sst)"}
    (project / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
    call("-C", project, "lock")
    for groups, only, names, compositions in (
        ([], [], {"sst", "lang/en"}, {"default"}),
        (["dev"], [], {"sst", "en"}, {"default", "both"}),
        ([], ["dev"], {"en"}, set()),
    ):
        adapters = adpm.load(model_of(0), project, groups=groups, only=only)
        assert set(adapters.adapters) == names
        assert set(adapters.compositions) == compositions
        adapters.unload()
    with pytest.raises(NotFoundError, match="no adapter is locked in a group 'x'"):
        adpm.load(model_of(0), project, groups=["x"])


def test_a_member_of_a_workspace_loads_its_part(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "adapter.lock").unlink()
    manifest = json.loads((project / "adapter.yaml").read_text(encoding="utf-8"))
    adapters = manifest.pop("adapters")
    compose = manifest.pop("compose")
    root = {**manifest, "workspace": {"members": ["en", "models/*"]}}
    (project / "adapter.yaml").write_text(json.dumps(root), encoding="utf-8")
    for member, parts in (
        ("en", {"adapters": {"en": "lang/en"}}),
        ("models/sst", {"adapters": adapters, "compose": compose}),
    ):
        (project / member / "src").mkdir(parents=True)
        (project / member / "adapter.yaml").write_text(json.dumps(parts), encoding="utf-8")
    call("-C", project, "lock")
    call("-C", project, "install")
    loaded = adpm.load(model_of(0), project / "en")
    assert (loaded.names, str(loaded.active)) == (("en",), "en")
    monkeypatch.chdir(project / "models/sst/src")
    loaded = adpm.load(model_of(0))
    assert (loaded.names, str(loaded.active)) == (("sst", "lang/en"), "stack(lang/en, sst)")
    for place in (project, project / "models", project / "adapter.lock"):
        with pytest.raises(NotFoundError, match="is in no member of the workspace") as caught:
            adpm.load(model_of(0), place)
        assert str(project / "models/sst") in (caught.value.hint or "")


def test_a_fusion_comes_with_a_package(project: Path, tmp_path: Path) -> None:
    """AdapterHub's fusion files beside an adapter: locked for the adapters that they name, loaded for `fuse`."""
    made = {}
    for seed, name in enumerate(("ner", "pos", "tag"), 3):
        made[name] = make_adapter(tmp_path / name, f"x/{name}", base=tmp_path / "base", called=name, seed=seed)
    handle = adpm.attach(model_of(0))
    for name in ("ner", "pos"):
        handle.read(made[name], name)
    handle.add_fusion(["ner", "pos"], generator=torch.Generator().manual_seed(1))
    handle.save_fusion(["ner", "pos"], made["pos"])
    handle.activate("fuse(ner, pos)")
    truth = states(handle.model)
    for directory in made.values():
        call("publish", directory, "--registry", tmp_path / "registry")
    manifest = json.loads((project / "adapter.yaml").read_text(encoding="utf-8"))
    manifest["adapters"] = {"a": "x/ner", "b": "x/pos", "c": "x/tag"}

    def compose(text: str, status: int = 0) -> None:
        manifest["compose"] = {"default": text}
        (project / "adapter.yaml").write_text(json.dumps(manifest), encoding="utf-8")
        with pytest.raises(SystemExit) as exit_:
            run(["-C", str(project), "lock"])
        assert exit_.value.code == status

    compose("fuse(b, a)", 1)
    compose("fuse(a, b, c)", 1)
    compose("fuse(a, b)")
    call("-C", project, "install")
    model = model_of(0)
    loaded = adpm.load(model, project)
    assert str(loaded.active) == "fuse(a, b)"
    assert torch.equal(states(model), truth)
    (made["tag"] / "adapter_fusion_config.json").write_text('{"adapter_names": 3}', encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        run(["publish", str(made["tag"]), "--registry", str(tmp_path / "registry")])
    assert exit_.value.code == 1
