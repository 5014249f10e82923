"""The contract that every registry keeps, as tests: for those who write a backend. Needs pytest, as nothing else does.

from adpm.testing import Pair, WriteContract

class TestMine(WriteContract):
    @pytest.fixture
    def pair(self, tmp_path):
        registry = open_registry("mine", f"mine://{tmp_path}", tmp_path)
        registry.publish(...)  # or make it in another way
        return Pair(registry, registry)
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("adpm.testing.contract")  # so that a failure says what was compared

from adpm.testing.contract import NAME, Pair, ReadContract, ReadOnlyContract, WriteContract  # noqa: E402 - see above
from adpm.testing.making import NOW, make, make_card  # noqa: E402 - as above

__all__ = ["NAME", "NOW", "Pair", "ReadContract", "ReadOnlyContract", "WriteContract", "make", "make_card"]
