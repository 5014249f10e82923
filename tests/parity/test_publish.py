"""Everything that the peers wrote can be published as it is, whether the runtime runs it or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file

import adpm
from adpm.core.manifest import BaseSource
from adpm.core.names import PackageName
from adpm.errors import AdpmError
from adpm.ops.plain import plain_package
from adpm.ops.publish import prepare
from adpm.store.store import Store
from tests.parity.corpus import ROOT
from tests.runtime.models import make, outputs, randomise


def test_what_the_peers_wrote_can_be_published(tmp_path: Path) -> None:
    directories = [path.parent for path in sorted(ROOT.glob("*/*/**/adapter_config.json"))]
    safe = [directory for directory in directories if any(directory.glob("*.safetensors"))]
    if not safe:
        pytest.skip(f"no corpus at {ROOT}: set ADPM_PARITY_DIR")
    store, base, refused = Store(tmp_path / "store"), BaseSource(model="org/model"), []
    for directory in safe:
        try:
            prepare(plain_package(directory, PackageName("x/y"), Version("1.0"), tmp_path), store, base=base)
        except AdpmError as error:
            refused.append(f"{directory.relative_to(ROOT)}: {error}")
    assert refused == []


def test_a_fusion_beside_an_adapter_is_published_with_it(tmp_path: Path) -> None:
    """As AdapterHub's pickles, which become safetensors; without its config the weights stay behind."""
    handle = adpm.attach(make())
    for seed, name in enumerate(("a", "b")):
        handle.add(name, "pfeiffer")
        randomise(handle, name, seed)
    handle.add_fusion(["a", "b"], generator=torch.Generator().manual_seed(1))
    handle.activate("fuse(a, b)")
    expected = outputs(handle.model)
    directory, work = tmp_path / "b", tmp_path / "work"
    handle.save("b", directory)
    handle.save_fusion(["a", "b"], directory)
    for path, old in (("adapter", "pytorch_adapter"), ("model_adapter_fusion", "pytorch_model_adapter_fusion")):
        torch.save(load_file(directory / f"{path}.safetensors"), directory / f"{old}.bin")
        (directory / f"{path}.safetensors").unlink()
    work.mkdir()
    package = plain_package(directory, PackageName("x/y"), Version("1.0"), work)
    fusion = {"adapter_fusion_config.json", "model_adapter_fusion.safetensors"}
    assert set(package.files) == {"adapter_config.json", "adapter.safetensors", *fusion}
    out = tmp_path / "out"
    out.mkdir()
    for path, origin in package.files.items():
        (out / path).write_bytes(origin.read_bytes())
    handle.activate(None)
    handle.remove("b")
    handle.read(out, "b")
    assert handle.read_fusion(out) == ("a", "b")
    handle.activate("fuse(a, b)")
    assert all(torch.allclose(value, expected[key], atol=1e-5) for key, value in outputs(handle.model).items())
    (directory / "adapter_fusion_config.json").unlink()
    assert fusion.isdisjoint(plain_package(directory, PackageName("x/y"), Version("1.0"), work).files)
