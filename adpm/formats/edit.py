"""Editing ``adapter.yaml`` in place: only the lines that must change do; comments, order and spelling of the rest stay.

Each function takes the file's bytes and returns new ones. The result is read again and compared with what was meant;
where that fails (a layout this module does not know), ``UsageError`` (``manifest-layout``) says so and nothing is lost.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from adpm.core.composition import leaves
from adpm.core.manifest import BaseSource, Manifest, RegistrySource, Wanted
from adpm.core.names import Alias
from adpm.core.requirement import Requirement
from adpm.errors import AdpmError, NotFoundError, UsageError
from adpm.formats.manifest import open_manifest
from adpm.formats.source import wanted_source_value
from adpm.formats.yaml import Path, Span, YamlDocument

__all__ = ["add_adapter", "add_registry", "new_manifest", "remove_adapter", "remove_registry"]

_BREAK: Final = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(?: (?:==|~=|>=|<=|!=|>|<)[A-Za-z0-9.*+!,<>=~]+)?\Z")
_UNQUOTABLE: Final = re.compile(r"[\u2028\u2029\ufeff\ufffe\uffff]")  # valid in JSON's quotes, not in YAML's
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def new_manifest(base: BaseSource | None) -> bytes:
    """The manifest that ``adpm init`` writes; None: a member's, which takes base and registries from its root."""
    if base is None:
        return b"adapters: {}\n"
    if base.path is None and base.revision is None:
        value = _scalar(base.model or "", flow=False)
    else:
        value = _flow({"model": base.model, "revision": base.revision, "path": base.path})
    return f"base: {value}\nregistries: []\nadapters: {{}}\n".encode()


def add_adapter(data: bytes, wanted: Wanted, source: str, root: Manifest | None = None) -> bytes:
    """Add ``wanted`` under ``adapters``, or replace what its alias asked for; ``root``: see ``read_manifest``."""
    said = _said(wanted)
    if isinstance(said, str):
        value, inner = _scalar(said, flow=False), _scalar(said, flow=True)
    else:
        value = inner = _flow(said)

    def meant(before: Manifest) -> Manifest:
        plain = [w if w.alias != wanted.alias else wanted for w in before.adapters if w.group is None]
        grouped = [w for w in before.adapters if w.group is not None]
        return dataclasses.replace(before, adapters=(*plain, *([] if wanted in plain else [wanted]), *grouped))

    return _edit(data, source, lambda text: text.put("adapters", str(wanted.alias), value, inner), meant, root)


def _said(wanted: Wanted) -> str | dict[str, str | list[str] | None]:
    """What stands behind the alias: a text where that says it all."""
    place: dict[str, str | list[str] | None] = {"base": wanted.base, "slot": wanted.slot}
    asked = wanted.requirement
    if isinstance(asked, Requirement):
        if not any((wanted.registry, wanted.base, wanted.slot)):
            return str(asked)
        version = None if asked.channel is not None else asked.constraint or None
        return {
            "package": asked.name,
            "version": version,
            "channel": asked.channel,
            "registry": wanted.registry,
            **place,
        }
    source = wanted_source_value(asked)
    if isinstance(source, dict):
        return {**source, **place}
    return source if not any(place.values()) else {"package": source, **place}


def remove_adapter(data: bytes, alias: Alias, source: str, root: Manifest | None = None) -> bytes:
    """Remove ``alias``; ``NotFoundError`` (``alias-unknown``) if there is none such."""
    before, _ = open_manifest(data, source, root)
    kept = tuple(w for w in before.adapters if w.alias != alias or w.group is not None)
    if len(kept) == len(before.adapters):
        known = ", ".join(str(w.alias) for w in before.adapters if w.group is None) or "none"
        group = next((w.group for w in before.adapters if w.alias == alias), None)
        if group is not None:
            raise UsageError(
                "alias-in-group",
                f"{alias!r} stands under groups.{group} in {source}, which adpm does not edit",
                hint="remove it there, then run 'adpm lock'",
            )
        raise NotFoundError("alias-unknown", f"{source} has no adapter {alias!r}", hint=f"its adapters are: {known}")
    using = [name for name, composition in before.compose.items() if alias in leaves(composition)]
    if using:
        raise UsageError(
            "alias-used",
            f"{alias!r} is used by the composition {using[0]!r}",
            hint=f"change or remove compose.{using[0]} in {source} first",
        )
    return _edit(
        data,
        source,
        lambda text: text.drop("adapters", str(alias)),
        lambda m: dataclasses.replace(m, adapters=kept),
        root,
    )


def add_registry(data: bytes, registry: RegistrySource, source: str) -> bytes:
    """Add a registry behind the others, or replace the one of that name in its place."""
    lists = {"packages": list(registry.packages) or None, "mirrors": list(registry.mirrors) or None}
    value = _flow({"name": registry.name, "url": registry.url, **lists})
    before, _ = open_manifest(data, source)
    names = [r.name for r in before.registries]
    place = names.index(registry.name) if registry.name in names else None

    def meant(manifest: Manifest) -> Manifest:
        registries = list(manifest.registries)
        if place is None:
            registries.append(registry)
        else:
            registries[place] = registry
        return dataclasses.replace(manifest, registries=tuple(registries))

    return _edit(data, source, lambda text: text.put("registries", place, value, value), meant)


def remove_registry(data: bytes, name: str, source: str) -> bytes:
    """Remove the registry ``name``; ``NotFoundError`` (``registry-unknown``) if there is none such."""
    before, _ = open_manifest(data, source)
    names = [r.name for r in before.registries]
    if name not in names:
        raise NotFoundError(
            "registry-unknown",
            f"{source} declares no registry {name!r}",
            hint=f"its registries are: {', '.join(names) or 'none'}",
        )
    kept = tuple(r for r in before.registries if r.name != name)
    return _edit(
        data,
        source,
        lambda text: text.drop("registries", names.index(name)),
        lambda m: dataclasses.replace(m, registries=kept),
    )


def _edit(
    data: bytes,
    source: str,
    change: Callable[[_Text], None],
    meant: Callable[[Manifest], Manifest],
    root: Manifest | None = None,
) -> bytes:
    before, document = open_manifest(data, source, root)
    text = _Text(data.decode("utf-8"), document)
    try:
        change(text)
        edited = text.joined().encode("utf-8")
        if open_manifest(edited, source, root)[0] == meant(before):
            return edited
        why = "the change would alter other parts of it"
    except AdpmError as error:
        why = error.cause or error.what
    raise UsageError("manifest-layout", f"{source} can't be edited by adpm", cause=why, hint="make the change by hand")


class _Text:
    """The lines of a file and where the parts of its document stand in them."""

    def __init__(self, text: str, document: YamlDocument) -> None:
        breaks = _BREAK.findall(text)
        self.lines = _BREAK.split(text)
        self.breaks = [*breaks, ""]
        self.newline = breaks[0] if breaks else "\n"
        self.spans, self.keys = document.spans, document.keys
        self.root = document.root.value

    def joined(self) -> str:
        return "".join(line + end for line, end in zip(self.lines, self.breaks, strict=True))

    def put(self, section: str, key: str | int | None, value: str, inner: str) -> None:
        """Set ``section[key]`` (``key`` None: append to a list). ``inner`` is the value's spelling inside ``{}``."""
        entries = self._entries(section)
        item = f"{key}: " if isinstance(key, str) else "- "
        if (section,) not in self.keys:
            self._append([f"{section}:", f"  {item}{value}"])
        elif key is not None and (section, key) in self.spans:
            span = Span(self.spans[section, key].start, self._last((section, key)))
            self._replace(span, inner if self.spans[section,].flow else value)
        elif not entries:
            self._replace(self.spans[section,], "")
            line = self.keys[section,].start[0]
            self.lines[line] = self.lines[line].rstrip(" ")
            self._insert(line + 1, f"  {item}{value}")
        elif self.spans[section,].flow:
            end_line, end_column = self._last(entries[-1])
            prefix = f", {key}: " if isinstance(key, str) else ", "
            line_text = self.lines[end_line]
            self.lines[end_line] = line_text[:end_column] + prefix + inner + line_text[end_column:]
        else:
            first = self._first(entries[0])
            indent = self.lines[first[0]][: first[1]]
            self._insert(self._last(entries[-1])[0] + 1, f"{indent}{item}{value}")

    def drop(self, section: str, key: str | int) -> None:
        """Remove ``section[key]``, which exists."""
        entries = self._entries(section)
        place = entries.index((section, key))
        if self.spans[section,].flow:
            self._drop_from_flow(entries, place)
            return
        first, last = self._first(entries[place])[0], self._last(entries[place])[0]
        del self.lines[first : last + 1], self.breaks[first : last + 1]
        if len(entries) == 1:
            empty = " []" if isinstance(key, int) else " {}"
            line, column = self.keys[section,].end
            colon = self.lines[line].index(":", column) + 1
            self.lines[line] = self.lines[line][:colon] + empty + self.lines[line][colon:]

    def _drop_from_flow(self, entries: list[Path], place: int) -> None:
        """Remove one entry with one comma, and the line that it leaves blank; comments beside it stay."""
        start, (line, column) = self._first(entries[place]), self._last(entries[place])
        before = self._last(entries[place - 1]) if place else None
        if before and before[0] == start[0] and place + 1 == len(entries):
            start = before
        elif comma := _COMMA.match(self.lines[line], column):
            column = comma.end()
        self._replace(Span(start, (line, column)), "")
        if not self.lines[start[0]].strip() and self.breaks[start[0]]:
            del self.lines[start[0]], self.breaks[start[0]]

    def _entries(self, section: str) -> list[Path]:
        """The paths of a section's entries, in the file's order."""
        return sorted((path for path in self.spans if len(path) == 2 and path[0] == section), key=self._first)

    def _first(self, path: Path) -> tuple[int, int]:
        """Where an entry begins: its key, or the dash of a list's item."""
        if path in self.keys:
            return self.keys[path].start
        line, column = self.spans[path].start
        dash = self.lines[line].rfind("-", 0, column)
        return (line, dash) if self.lines[line][:column].strip() == "-" else (line, column)

    def _last(self, path: Path) -> tuple[int, int]:
        """Just behind an entry's last character; block collections themselves end where the next token begins."""
        line, column = max(
            span.end
            for other, span in self.spans.items()
            if other[: len(path)] == path and (span.flow or not any(p[:-1] == other for p in self.spans if p))
        )
        while line > self.spans[path].start[0] and not self.lines[line][:column].strip():
            line, column = line - 1, len(self.lines[line - 1])  # block scalars end on the line behind them
        return line, column

    def _replace(self, span: Span, value: str) -> None:
        (first, start), (last, end) = span.start, span.end
        joined = self.lines[first][:start] + value + self.lines[last][end:]
        self.lines[first : last + 1] = [joined]
        self.breaks[first : last + 1] = [self.breaks[last]]

    def _insert(self, line: int, text: str) -> None:
        if line > 0 and not self.breaks[line - 1]:
            self.breaks[line - 1] = self.newline
        self.lines.insert(line, text)
        self.breaks.insert(line, self.newline)

    def _append(self, texts: list[str]) -> None:
        end = len(self.lines) if self.lines[-1] else len(self.lines) - 1
        for i, text in enumerate(texts):
            self._insert(end + i, text)


def _scalar(value: str, *, flow: bool) -> str:
    """``value`` as a YAML scalar: bare where that can't be misread, else in double quotes."""
    if _BARE.match(value) and value.lower() not in _WORDS and not (flow and re.search(r"[,\[\]{}]", value)):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNQUOTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _flow(parts: Mapping[str, str | list[str] | None]) -> str:
    spelled = []
    for key, value in parts.items():
        if isinstance(value, list):
            spelled.append(f"{key}: [{', '.join(json.dumps(v) for v in value)}]")
        elif value is not None:
            spelled.append(f"{key}: {_scalar(value, flow=True)}")
    return "{" + ", ".join(spelled) + "}"
