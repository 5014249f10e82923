"""``adapter.yaml``: what its reader says, with the line, and what only the whole file can tell."""

from __future__ import annotations

import pytest

from adpm.core.manifest import Manifest, Wanted
from adpm.core.names import Alias
from adpm.core.requirement import Requirement
from adpm.errors import DocumentError
from adpm.formats.manifest import read_manifest


def _faults(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_manifest(text.encode(), "adapter.yaml")
    assert caught.value.code == "manifest-invalid"
    return [str(fault) for fault in caught.value.faults]


def test_faults_name_line_path_and_what_was_meant() -> None:
    text = """\
base: {model: a, revison: main}
registry: []
adapters:
  en: lang/en >=x
  sst: {pakage: a}
"""
    assert _faults(text) == [
        "base.revison (line 1): unknown key; did you mean 'revision'?",
        "registry (line 2): unknown key; did you mean 'registries'?",
        (
            "adapters.en (line 4): '>=x' is not a version constraint (constraints follow PEP 440: '>=1.2,<2', '~=1.0', "
            "'==1.4', '!=1.3'; at most 1000 characters)"
        ),
        "adapters.sst.package (line 5): is missing",
        "adapters.sst.pakage (line 5): unknown key; did you mean 'package'?",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "adapters: {en: {package: lang/en, registry: there}}\nregistries: [{name: here, url: x}]",
            "adapters.en (line 1): no registry named 'there' is declared; declared are here",
        ),
        ("adapters: {en: {package: e, registry: x}}", "adapters.en (line 1): no registry named 'x' is declared"),
        ("compose:\n  x: stack(en)", "compose.x (line 2): 'en' is no alias under adapters"),
        (
            "registries:\n- {name: a, url: x}\n- {name: a, url: y}",
            "registries[1].name (line 3): a registry named 'a' is declared above",
        ),
        (
            "package: {name: a, version: 1.0, requires: [b >=1, b <2]}",
            "package.requires (line 1): requires one package twice; join the constraints with a comma",
        ),
        (
            "compose: {x: stack(a, b)}",
            "compose (line 1): has a composition cut at a comma: put it in quotes, or on a line of its own",
        ),
        (
            "compose: {x: 'stack(a,,b)'}",
            (
                "compose.x (line 1): 'stack(a,,b)' is not a composition: at character 9: expected an adapter's name "
                "(a composition looks like: sst, stack(en, sst), average(a: 0.3, b: 0.7))"
            ),
        ),
    ],
)
def test_what_parts_say_of_each_other(text: str, fault: str) -> None:
    assert _faults(text) == [fault]


def test_a_package_may_be_composed_by_its_name() -> None:
    manifest = read_manifest(b"adapters: {sst: text/sst}\ncompose: {x: 'stack(lang/en, sst)'}", "adapter.yaml")
    assert str(manifest.compose[Alias("x")]) == "stack(lang/en, sst)"


def test_adapters_keep_their_order_and_lines() -> None:
    manifest = read_manifest(b"adapters:\n  b: x\n\n  a: y >=1\n", "adapter.yaml")
    assert manifest == Manifest(
        adapters=(
            Wanted(Alias("b"), Requirement.parse("x")),
            Wanted(Alias("a"), Requirement.parse("y >=1")),
        )
    )
    assert [wanted.line for wanted in manifest.adapters] == [2, 4]
