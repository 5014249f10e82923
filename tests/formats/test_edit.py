"""Editing ``adapter.yaml`` changes what it must and not a byte more."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adpm.core.manifest import BaseSource, Manifest, RegistrySource, Wanted
from adpm.core.names import Alias
from adpm.core.requirement import Requirement
from adpm.core.source import GitSource, parse_source
from adpm.errors import AdpmError, NotFoundError, UsageError
from adpm.formats.edit import add_adapter, add_registry, new_manifest, remove_adapter, remove_registry
from adpm.formats.manifest import read_manifest
from tests import strategies

_SOURCE: Final = "adapter.yaml"


@dataclass(frozen=True)
class Layout:
    """A manifest's lines, each with its owner: a section (``adapters``), an entry (``adapters.sst``), or nobody."""

    lines: tuple[tuple[str, str], ...]
    newline: str = "\n"
    last_newline: bool = True

    @property
    def data(self) -> bytes:
        text = self.newline.join(line for line, _ in self.lines)
        return (text + (self.newline if self.last_newline else "")).encode()


_comments = st.sampled_from(["# plain", "#", "  # indented: {yes}", "", "   ", "# größer → 大"])
_gaps = st.lists(_comments, max_size=2)
_tails = st.sampled_from(["", "", "  # why", " # größe"])
_ALIASES: Final = ("sst", "en", "qa", "no", "stack")
_REQUIREMENTS: Final = ("text/sst-2 >=1.2,<2", "lang/en", "a ~=1.0")


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    lines: list[tuple[str, str]] = []

    def gap() -> None:
        lines.extend((comment, "") for comment in draw(_gaps))

    sections = draw(st.permutations(["base", "registries", "adapters", "compose"]))
    for section in sections[: draw(st.integers(0, 4))]:
        gap()
        tail = draw(_tails)
        if section == "base":
            lines.append((f"base: org/model{tail}", ""))
        elif section == "compose":
            lines.extend([("compose:", ""), (f"  x: lang/en{tail}", "")])
        elif section == "registries":
            _registries(draw, lines, tail)
        else:
            _adapters(draw, lines, tail)
    gap()
    if not any(line.strip() for line, _ in lines):
        lines.append(("# nothing yet", ""))
    return Layout(tuple(lines), draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans()))


def _empty(draw: st.DrawFn, lines: list[tuple[str, str]], section: str, brackets: str, tail: str) -> None:
    value = draw(st.sampled_from(["", " ", f" {brackets}", " ~", " null", f"   {brackets}  "]))
    lines.append((f"{section}:{value}{tail}", section))


def _adapters(draw: st.DrawFn, lines: list[tuple[str, str]], tail: str) -> None:
    aliases = draw(st.lists(st.sampled_from(_ALIASES), max_size=3, unique=True))
    values = draw(st.permutations(_REQUIREMENTS))[: len(aliases)]  # no two alike: which lines went must be clear
    style = draw(st.sampled_from(["block", "flow", "flow lines"]))
    if not aliases:
        _empty(draw, lines, "adapters", "{}", tail)
    elif style == "flow":
        inner = ", ".join(f'{alias}: "{value}"' for alias, value in zip(aliases, values, strict=True))
        comma = draw(st.sampled_from(["", ",", " "]))
        lines.append((f"adapters: {{{inner}{comma}}}{tail}", "adapters"))
    elif style == "flow lines":
        lines.append((f"adapters: {{{tail}", "adapters"))
        for i, (alias, value) in enumerate(zip(aliases, values, strict=True)):
            comma = "," if i + 1 < len(aliases) or draw(st.booleans()) else ""
            lines.append((f'  "{alias}": "{value}"{comma}{draw(_tails)}', f"adapters.{alias}"))
            lines.extend((comment, "") for comment in draw(_gaps))
        lines.append(("}", "adapters"))
    else:
        lines.append((f"adapters:{tail}", "adapters"))
        indent = draw(st.sampled_from([" ", "  ", "      "]))
        for alias, value in zip(aliases, values, strict=True):
            lines.extend((comment, "") for comment in draw(_gaps))
            owner = f"adapters.{alias}"
            name, _, version = value.partition(" ")
            spelled = draw(st.sampled_from(["plain", "quoted", "flow", "block", "literal"]))
            if spelled == "plain":
                lines.append((f"{indent}{alias}: {value}{draw(_tails)}", owner))
            elif spelled == "quoted":
                lines.append((f"{indent}'{alias}' :   '{value}'{draw(_tails)}", owner))
            elif spelled == "flow":
                extra = f', version: "{version}"' if version else ""
                lines.append((f"{indent}{alias}: {{package: {name}{extra}}}{draw(_tails)}", owner))
            elif spelled == "literal":
                lines.extend([(f"{indent}{alias}: |", owner), (f"{indent}   {value}", owner)])
            else:
                lines.append((f"{indent}{alias}:", owner))
                lines.append((f"{indent}  package: {name}{draw(_tails)}", owner))
                if version:
                    lines.append((f'{indent}  version: "{version}"', owner))


def _registries(draw: st.DrawFn, lines: list[tuple[str, str]], tail: str) -> None:
    names = draw(st.lists(st.sampled_from(["team", "here", "hub-1"]), max_size=3, unique=True))
    style = draw(st.sampled_from(["block", "flow"]))
    if not names:
        _empty(draw, lines, "registries", "[]", tail)
    elif style == "flow":
        inner = ", ".join(f"{{name: {name}, url: ../{name}}}" for name in names)
        lines.append((f"registries: [{inner}]{tail}", "registries"))
    else:
        lines.append((f"registries:{tail}", "registries"))
        indent = draw(st.sampled_from(["", "  ", "    "]))
        for name in names:
            lines.extend((comment, "") for comment in draw(_gaps))
            owner = f"registries.{name}"
            if draw(st.booleans()):
                lines.append((f"{indent}- {{name: {name}, url: ../{name}}}{draw(_tails)}", owner))
            else:
                lines.append((f"{indent}-  name: {name}", owner))
                lines.append((f"{indent}   url: ../{name}{draw(_tails)}", owner))


def _assert_only(layout: Layout, edited: bytes, owners: set[str]) -> None:
    """Only lines of ``owners`` were changed or removed; the rest stand in their order, byte for byte."""
    before = layout.data.decode().split("\n")
    after = edited.decode().split("\n")
    owned = [owner for _, owner in layout.lines] + [""]
    for tag, start, end, first, last in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for line, owner in zip(before[start:end], owned[start:end], strict=True):
            # Without a newline at the end of the file, the last line gains one where something is written behind it.
            gained = line + layout.newline[:-1] in after[first:last] and not layout.last_newline
            # Which of several empty lines went with an entry, the comparison can't tell.
            gone = not line and (tag == "delete" or not owners.isdisjoint(owned[start:end]))
            assert tag == "equal" or owner in owners or gained or gone, (line, owner)
    comments = [line for line, owner in layout.lines if line.lstrip().startswith("#")]
    rest = iter(after)
    assert all(any(comment == line.rstrip("\r") for line in rest) for comment in comments)


_wanted = st.builds(
    Wanted,
    alias=st.sampled_from(_ALIASES).map(Alias) | strategies.aliases,
    requirement=strategies.wanted_requirements,
)


@settings(max_examples=120)
@given(layouts(), _wanted)
def test_adding_an_adapter_touches_only_its_section(layout: Layout, wanted: Wanted) -> None:
    before = read_manifest(layout.data, _SOURCE)
    after = add_adapter(layout.data, wanted, _SOURCE)
    kept = tuple(wanted if w.alias == wanted.alias else w for w in before.adapters)
    meant = kept if wanted in kept else (*kept, wanted)
    assert read_manifest(after, _SOURCE) == dataclasses.replace(before, adapters=meant)
    owners = {"adapters", f"adapters.{wanted.alias}"}
    if layout.data.count(b"adapters: {") and before.adapters:
        owners.add(f"adapters.{before.adapters[-1].alias}")  # in braces, the entry before gains a comma
    _assert_only(layout, after, owners)
    assert b"\r\n" not in after or layout.newline == "\r\n"


@settings(max_examples=120)
@given(layouts(), st.data())
def test_removing_an_adapter_touches_only_its_entry(layout: Layout, data: st.DataObject) -> None:
    before = read_manifest(layout.data, _SOURCE)
    if not before.adapters:
        with pytest.raises(NotFoundError, match="has no adapter"):
            remove_adapter(layout.data, Alias("sst"), _SOURCE)
        return
    gone = data.draw(st.sampled_from(before.adapters))
    after = remove_adapter(layout.data, gone.alias, _SOURCE)
    meant = tuple(w for w in before.adapters if w.alias != gone.alias)
    assert read_manifest(after, _SOURCE) == dataclasses.replace(before, adapters=meant)
    _assert_only(layout, after, {"adapters", f"adapters.{gone.alias}"})


@settings(max_examples=120)
@given(layouts(), _wanted)
def test_adding_and_removing_gives_the_same_bytes(layout: Layout, wanted: Wanted) -> None:
    """Where the section has entries and the file ends with a newline: else both must be written first."""
    before = read_manifest(layout.data, _SOURCE)
    if not before.adapters or not layout.last_newline or wanted.alias in {w.alias for w in before.adapters}:
        return
    added = add_adapter(layout.data, wanted, _SOURCE)
    assert remove_adapter(added, wanted.alias, _SOURCE) == layout.data


_registry = st.builds(
    RegistrySource,
    st.sampled_from(["team", "here", "new"]) | strategies.registry_names,
    st.sampled_from(
        ["../registry", "https://example.com/r", "s3://bucket/a b", "C:\\x", 'with "quotes"', "größe", "- #x"]
    )
    | strategies.texts,
    st.sampled_from([(), ("team/*",), ("a", "b/*")]),
)


@settings(max_examples=120)
@given(layouts(), _registry)
def test_adding_a_registry_touches_only_its_section(layout: Layout, registry: RegistrySource) -> None:
    before = read_manifest(layout.data, _SOURCE)
    after = add_registry(layout.data, registry, _SOURCE)
    names = [r.name for r in before.registries]
    meant = list(before.registries)
    if registry.name in names:
        meant[names.index(registry.name)] = registry
    else:
        meant.append(registry)
    assert read_manifest(after, _SOURCE) == dataclasses.replace(before, registries=tuple(meant))
    _assert_only(layout, after, {"registries", f"registries.{registry.name}"})


@settings(max_examples=120)
@given(layouts(), st.data())
def test_removing_a_registry_touches_only_its_entry(layout: Layout, data: st.DataObject) -> None:
    before = read_manifest(layout.data, _SOURCE)
    if not before.registries:
        with pytest.raises(NotFoundError, match="declares no registry"):
            remove_registry(layout.data, "team", _SOURCE)
        return
    gone = data.draw(st.sampled_from(before.registries))
    after = remove_registry(layout.data, gone.name, _SOURCE)
    meant = tuple(r for r in before.registries if r.name != gone.name)
    assert read_manifest(after, _SOURCE) == dataclasses.replace(before, registries=meant)
    _assert_only(layout, after, {"registries", f"registries.{gone.name}"})


@given(strategies.texts, st.none() | strategies.texts, st.none() | strategies.texts)
@example("null", None, None)
@example("\u2028\ufeff\uffff", None, "\u2029")
def test_a_new_manifest_reads_back(model: str, revision: str | None, path: str | None) -> None:
    base = BaseSource(model, revision, path)
    assert read_manifest(new_manifest(base), _SOURCE) == Manifest(base=base)


def test_a_new_manifest_is_plain() -> None:
    assert new_manifest(BaseSource("google-bert/bert-base-uncased")) == (
        b"base: google-bert/bert-base-uncased\nregistries: []\nadapters: {}\n"
    )


_PROJECT: Final = b"""\
# our project
base: org/model   # pinned
registries:
- {name: team, url: ../team}   # ours
adapters:
  # the task
  sst: text/sst-2 >=1.2,<2   # newest 1.x

  en:
    package: lang/en
    registry: team
compose:
  default: stack(en, sst)
"""


def _adapter(alias: str, requirement: str, registry: str | None = None) -> Wanted:
    return Wanted(Alias.parse(alias), Requirement.parse(requirement), registry)


@pytest.mark.parametrize(
    ("wanted", "old", "new"),
    [
        (
            _adapter("qa", "qa/squad"),
            b"    registry: team\n",
            b"    registry: team\n  qa: qa/squad\n",
        ),
        (
            _adapter("qa", "qa/squad ==1.0", "team"),
            b"    registry: team\n",
            b'    registry: team\n  qa: {package: qa/squad, version: "==1.0", registry: team}\n',
        ),
        (_adapter("sst", "text/sst-2 >=2"), b"text/sst-2 >=1.2,<2 ", b"text/sst-2 >=2 "),
        (
            _adapter("en", "lang/en ~=1.0"),
            b"    package: lang/en\n    registry: team\n",
            b"    lang/en ~=1.0\n",
        ),
        (
            Wanted(Alias("wip"), parse_source("../my adapter")),
            b"    registry: team\n",
            b'    registry: team\n  wip: {path: "../my adapter"}\n',
        ),
        (
            Wanted(Alias("wip"), parse_source("git+https://example.org/x.git#v1")),
            b"    registry: team\n",
            b'    registry: team\n  wip: "git+https://example.org/x.git#v1"\n',
        ),
        (
            Wanted(Alias("wip"), GitSource("https://example.org/x", "v1", "a/b")),
            b"    registry: team\n",
            b'    registry: team\n  wip: {git: "https://example.org/x", subdirectory: a/b, revision: v1}\n',
        ),
    ],
)
def test_the_very_bytes_of_an_addition(wanted: Wanted, old: bytes, new: bytes) -> None:
    assert add_adapter(_PROJECT, wanted, _SOURCE) == _PROJECT.replace(old, new)


def test_an_alias_in_use_stays() -> None:
    with pytest.raises(UsageError) as caught:
        remove_adapter(_PROJECT, Alias("sst"), _SOURCE)
    assert (caught.value.code, caught.value.what) == ("alias-used", "'sst' is used by the composition 'default'")


def test_an_alias_named_like_an_operator_is_not_in_use() -> None:
    data = b"adapters:\n  stack: a\n  b: b\n  c: c\ncompose:\n  x: stack(b, c)\n"
    assert remove_adapter(data, Alias("stack"), _SOURCE) == data.replace(b"  stack: a\n", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"{base: org/model}\n",  # the whole file in braces: no place for a section
        b"base: org/model\n...\n",  # nothing may follow the document's end
        b"{adapters: {}}\n",
    ],
)
def test_a_layout_that_cannot_be_edited_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        add_adapter(data, _adapter("qa", "qa/squad"), _SOURCE)
    assert caught.value.code == "manifest-layout"
    assert caught.value.hint == "make the change by hand"


def test_a_registry_that_is_not_declared_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        add_adapter(_PROJECT, _adapter("qa", "qa/squad", "nowhere"), _SOURCE)
    assert "no registry named 'nowhere' is declared" in str(caught.value.cause)


_PIECES: Final = [*"ab:-{}[],?|>#'\"! \n\t&*", "adapters:", "registries:", "name: t", "url: u", "\n  "]


@settings(max_examples=120)
@given(st.lists(st.sampled_from(_PIECES)))
def test_any_manifest_is_edited_rightly_or_refused(pieces: list[str]) -> None:
    data = "".join(pieces).encode()
    wanted = _adapter("qa", "qa/squad")
    try:
        before = read_manifest(data, _SOURCE)
        after = add_adapter(data, wanted, _SOURCE)
    except AdpmError as error:
        code = error.code
    else:
        code = "manifest-layout"
        assert read_manifest(after, _SOURCE).adapters == (*before.adapters, wanted)
    assert code in {"manifest-invalid", "manifest-layout"}
