"""Everything that the peers wrote can be published as it is, whether the runtime runs it or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from adpm.core.manifest import BaseSource
from adpm.core.names import PackageName
from adpm.errors import AdpmError
from adpm.ops.plain import plain_package
from adpm.ops.publish import prepare
from adpm.store.store import Store
from tests.parity.corpus import ROOT


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
