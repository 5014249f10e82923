"""Every error code is documented in ``specs/errors.md``, and nothing that is documented is stale."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from adpm import errors
from adpm.errors import AdpmError, DocumentError, Fault, printable

_ROOT: Final = Path(__file__).parents[1]
_CLASSES: Final = {name: getattr(errors, name) for name in errors.__all__ if name != "Fault"}
_PASSED_ON: Final = {"code", "self.code"}  # parameters that carry a code which is found where the call is made


def _texts(module: ast.Module) -> dict[str, str]:
    """The module's constants that are texts: ``_CODE: Final = "safetensors-invalid"``."""
    out = {}
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                out[node.target.id] = value.value
    return out


def _raised(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """(name of the class, expression of the code) for every error that ``module`` makes."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in _CLASSES:
                yield node.func.id, node.args[0]
            for keyword in node.keywords:
                if keyword.arg == "code":  # of readers, whose faults are DocumentErrors
                    yield "DocumentError", keyword.value


def _used() -> Mapping[str, set[str]]:
    """Every code in adpm's source, with the classes that carry it."""
    out: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted((_ROOT / "adpm").rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        texts = _texts(module)
        for name, expression in _raised(module):
            if isinstance(expression, ast.Constant):
                out[str(expression.value)].add(name)
            elif isinstance(expression, ast.Name) and expression.id in texts:
                out[texts[expression.id]].add(name)
            else:
                assert ast.unparse(expression) in _PASSED_ON, f"{path}: the code of {name} is not a plain text"
    return out


def _documented() -> dict[str, tuple[set[str], list[int]]]:
    page = (_ROOT / "specs/errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| ([0-9, ]+) \| \S[^|]* \| \S[^|]* \|$", page, re.MULTILINE)
    assert len(rows) == len({code for code, _, _ in rows}) == page.count("\n| `")
    return {
        code: (set(re.findall(r"`(\w+)`", classes)), [int(n) for n in exits.split(",")])
        for code, classes, exits in rows
    }


def test_every_code_is_documented_with_its_classes() -> None:
    documented = _documented()
    assert {code: classes for code, (classes, _) in documented.items()} == dict(_used())


def test_exit_statuses_are_those_of_the_classes() -> None:
    for code, (classes, exits) in _documented().items():
        assert sorted({_CLASSES[name].exit_status for name in classes}) == sorted(set(exits)), code


@pytest.mark.parametrize("code", _used())
def test_codes_are_kebab_case(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) +(\d)", errors.__doc__ or ""))
    assert {name: int(status) for name, status in drawn.items()} == {
        name: cls.exit_status for name, cls in _CLASSES.items() if cls is not AdpmError
    }
    assert all(cls.__base__ is AdpmError for cls in _CLASSES.values() if cls is not AdpmError)


def test_codes_that_pages_name_exist() -> None:
    """Codes in backticks that end like codes, anywhere in the specs."""
    known = set(_used())
    for page in (_ROOT / "specs").rglob("*.md"):
        named = re.findall(r"`([a-z]+(?:-[a-z]+)+)`", page.read_text(encoding="utf-8"))
        endings = (
            "-invalid",
            "-mismatch",
            "-missing",
            "-not-found",
            "-unknown",
            "-unsupported",
            "-failed",
            "-outdated",
        )
        assert {word for word in named if word.endswith(endings)} <= known, page.name


def test_an_error_carries_its_values() -> None:
    error = errors.NotFoundError("x-missing", "x is missing", cause="because", hint="find it", place=7)
    assert (error.code, error.what, error.cause, error.hint, error.place) == (
        "x-missing",
        "x is missing",
        "because",
        "find it",
        7,
    )
    assert str(error) == "x is missing: because"
    assert not hasattr(error, "other")


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\rb", "a\u202eb", "a\x9bb", "a\0b", "a\ud800b", "a\u2028b"])
def test_messages_hold_nothing_that_drives_a_terminal(text: str) -> None:
    error = AdpmError("x", text, cause=text, hint=text)
    assert all(part is not None and part.isprintable() for part in (error.what, error.cause, error.hint))
    assert printable("a\nb ä大") == "a\nb ä大"


def test_a_document_error_lists_its_faults() -> None:
    error = DocumentError("x-invalid", "x.json", [Fault("a.b", "is bad", 3), Fault("", "is worse")], hint="mend it")
    assert str(error) == "x.json is not valid (2 faults): a.b (line 3): is bad\ndocument: is worse"
    assert (error.source, error.hint, len(error.faults), error.exit_status) == ("x.json", "mend it", 2, 1)
