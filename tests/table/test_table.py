"""README's table is what was tried, and what was tried is what adpm has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.table.__main__ import ours
from tests.table.ours import NAMES
from tests.table.render import README, RESULT, in_readme


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULT.read_bytes())
    return found


def test_the_table_is_what_was_tried(result: dict[str, Any]) -> None:
    readme = README.read_text(encoding="utf-8")
    assert in_readme(readme, result) == readme
    assert "<!-- methods -->" in readme


def test_every_method_was_tried_and_works_somewhere(result: dict[str, Any]) -> None:
    methods = result["adpm"]["methods"]
    assert set(methods) == set(NAMES)
    assert all(found["families"] and found["formats"] for found in methods.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers' modules, when imported
def test_it_is_so_now(result: dict[str, Any]) -> None:
    assert ours() == result["adpm"]["methods"]
