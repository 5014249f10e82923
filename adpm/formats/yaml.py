"""A YAML reader without surprises: the part of YAML that people write in ``adapter.yaml``.

No aliases and anchors, no tags, no merge keys, no second document, no duplicate keys. Scalars without quotes stay
texts (``Plain``) until the typed reader asks for a number or a boolean: ``no`` and ``1.10`` are what they look like.
Every part's place is kept, so that errors name lines and edits touch nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from adpm import limits
from adpm.errors import DocumentError, Fault
from adpm.formats.reader import Document, Plain, path_text

__all__ = ["Span", "YamlDocument", "open_yaml"]

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS: Final = frozenset({"", "~", "null"})
_TOO_DEEP: Final = f"nests deeper than {limits.DOCUMENT_DEPTH} levels"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a part stands: 0-based (line, column) of its beginning and just behind its end; ``flow``: in ``{}``."""

    start: tuple[int, int]
    end: tuple[int, int]
    flow: bool = False


class YamlDocument(Document):
    """A document that also knows the spans of its values (``spans``) and of its mapping keys (``keys``)."""

    def __init__(self, value: object, source: str, code: str, spans: dict[Path, Span], keys: dict[Path, Span]) -> None:
        lines = {path: span.start[0] + 1 for path, span in {**spans, **keys}.items()}
        super().__init__(value, source=source, code=code, lines=lines)
        self.spans = spans
        self.keys = keys


class _Refused(ValueError):
    pass


def open_yaml(data: bytes, *, source: str, code: str, limit: int) -> YamlDocument:
    """Parse ``data``; raises ``DocumentError`` with ``code`` where it is not this kind of YAML."""
    line: int | None = None
    try:
        if len(data) > limit:
            raise _Refused(f"has {len(data)} bytes, at most {limit} are allowed")
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise _Refused("begins with a byte order mark; save it as UTF-8 without one")
        builder = _Builder()
        for event in _events(text):
            line = event.start_mark.line + 1
            builder.take(event)
        return YamlDocument(builder.value, source, code, builder.spans, builder.keys)
    except _Refused as refused:
        why = str(refused)
    except UnicodeDecodeError as error:
        line, why = None, f"is not UTF-8 at byte {error.start}"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else line
        problem = str(error.problem or error.context)
        why = _TOO_DEEP if "nesting depth" in problem else f"is not YAML: {problem}"  # libyaml's own limit
    except (yaml.YAMLError, ValueError) as error:
        why = f"is not YAML: {str(error).splitlines()[0]}"
    raise DocumentError(code, source, [Fault("", why, line)])


def _events(text: str) -> Iterator[Any]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Builder:
    """Builds the value from parser events without recursion."""

    def __init__(self) -> None:
        self.value: object = None
        self.spans: dict[Path, Span] = {}
        self.keys: dict[Path, Span] = {}
        self._open: list[tuple[Any, Any]] = []  # (container, its start event)
        self._path: list[str | int] = []  # the path of the innermost open container's current child
        self._key: list[Any] = []  # per open container: the key whose value comes next, or None
        self._documents = 0

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused("uses an anchor or alias; write the value out")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _Refused("has a second document")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._finish(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)

    def _begin(self, event: Any) -> None:
        if event.tag is not None:
            raise _Refused(f"uses the tag {event.tag}")
        if len(self._open) >= limits.DOCUMENT_DEPTH:
            raise _Refused(_TOO_DEEP)
        container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._place(container, event)
        self._open.append((container, event))
        self._key.append(None)

    def _finish(self, event: Any) -> None:
        _, start = self._open.pop()
        self._key.pop()
        mark = event.end_mark
        self.spans[tuple(self._path)] = Span(_at(start.start_mark), _at(mark), bool(start.flow_style))
        if self._open:
            self._leave()

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            raise _Refused(f"uses the tag {event.tag}")
        if self._open and isinstance(self._open[-1][0], dict) and self._key[-1] is None:
            self._begin_value(event)
            return
        value: object = event.value
        if not event.style:  # a plain scalar; libyaml's binding says "" where the Python parser says None
            value = None if event.value in _NULLS else Plain(event.value)
        self._place(value, event)
        self.spans[tuple(self._path)] = Span(_at(event.start_mark), _at(event.end_mark))
        if self._open:
            self._leave()

    def _begin_value(self, event: Any) -> None:
        """A mapping's key: the next node is its value."""
        key = event.value
        if key == "<<":
            raise _Refused("uses a merge key; write the values out")
        if key in self._open[-1][0]:
            raise _Refused(f"has the key {path_text((*self._path, key))!r} twice")
        self._key[-1] = key
        self._path.append(key)
        self.keys[tuple(self._path)] = Span(_at(event.start_mark), _at(event.end_mark))

    def _place(self, value: object, event: Any) -> None:
        """Put ``value`` into the innermost open container; its path stays in ``_path`` until ``_leave``."""
        if not self._open:
            self.value = value
            return
        container = self._open[-1][0]
        if isinstance(container, dict):
            key = self._key[-1]
            if key is None:
                raise _Refused(f"has a mapping or list as a key, on line {event.start_mark.line + 1}")
            container[key] = value
        else:
            self._path.append(len(container))
            container.append(value)

    def _leave(self) -> None:
        self._path.pop()
        self._key[-1] = None


def _at(mark: Any) -> tuple[int, int]:
    return mark.line, mark.column
