"""Names, versions, digests: the words every other value is made of.

``PackageName`` and ``Digest`` are strings that have been checked once, where they came in; they hash, sort and print
as strings.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Self

from packaging.version import InvalidVersion, Version

from adpm import limits
from adpm.errors import UsageError

__all__ = ["Alias", "Channel", "Digest", "PackageName", "parse_version"]

_PART: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")
_RESERVED: Final = frozenset({"blobs", "releases", "yanks", "index.json", "oci-layout"})
_ALIAS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")


class PackageName(str):
    """``text/sst-2``: 1 to 4 parts of ``[a-z0-9]+([._-][a-z0-9]+)*`` joined by ``/``, at most 128 characters."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check ``text``; raise ``UsageError`` (``name-invalid``) naming the rule it breaks."""
        fault = _name_fault(text)
        if fault is not None:
            raise UsageError(
                "name-invalid",
                f"{text[: limits.NAME_CHARACTERS + 1]!r} is not a package name",
                cause=fault,
                hint="a name looks like text/sst-2: lower-case letters, digits, '.', '_', '-'; parts joined by '/'",
            )
        return cls(text)


def _name_fault(text: str) -> str | None:
    if len(text) > limits.NAME_CHARACTERS:
        return f"it has {len(text)} characters, at most {limits.NAME_CHARACTERS} are allowed"
    parts = text.split("/")
    if len(parts) > limits.NAME_PARTS:
        return f"it has {len(parts)} parts, at most {limits.NAME_PARTS} are allowed"
    for part in parts:
        if part in _RESERVED:
            return f"the part {part!r} is reserved by the registry layout"
        if not _PART.match(part):
            return f"the part {part!r} breaks the rule [a-z0-9]+([._-][a-z0-9]+)*"
    return None


class Alias(str):
    """What a project calls an adapter: a letter, then up to 63 letters, digits, ``_`` or ``-``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if not _ALIAS.match(text):
            raise UsageError(
                "alias-invalid",
                f"{text[:80]!r} is not an alias",
                hint="an alias is a letter followed by up to 63 letters, digits, '_' or '-'",
            )
        return cls(text)


class Channel(str):
    """A registry's movable name for a release of a package: a letter, then up to 31 letters, digits or ``-``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        if not _CHANNEL.match(text):
            raise UsageError(
                "channel-invalid",
                f"{text[:80]!r} is not a channel",
                hint="a channel is a lower-case letter followed by up to 31 lower-case letters, digits or '-', such as "
                "prod; a version is asked for with '==1.2', a digest with '@sha256:' and 64 hex digits",
            )
        return cls(text)


class Digest(str):
    """``sha256:`` and 64 lower-case hexadecimal digits."""

    __slots__ = ()

    @staticmethod
    def is_one(text: str) -> bool:
        return _DIGEST.match(text) is not None

    @classmethod
    def parse(cls, text: str) -> Self:
        if not cls.is_one(text):
            raise UsageError(
                "digest-invalid", f"{text[:80]!r} is not a digest", hint="a digest is 'sha256:' and 64 hex digits"
            )
        return cls(text)

    @classmethod
    def of(cls, data: bytes | memoryview) -> Self:
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def hex(self) -> str:
        return self[7:]

    @property
    def short(self) -> str:
        """The first 12 digits, for people."""
        return self[7:19]


def parse_version(text: str) -> Version:
    """A PEP 440 version, in its canonical spelling (``1.0``, not ``v1.0`` or ``01.0``), without a local part."""
    try:
        version = Version(text) if len(text) <= limits.VERSION_CHARACTERS else None
    except InvalidVersion:
        version = None
    if version is None:
        raise UsageError(
            "version-invalid",
            f"{text[:80]!r} is not a version",
            hint="a version follows PEP 440, such as 1.2.0 or 2.0rc1",
        )
    if str(version) != text:
        raise UsageError(
            "version-invalid", f"{text!r} is not written in its canonical form", hint=f"write it as {str(version)!r}"
        )
    if version.local is not None:
        raise UsageError(
            "version-invalid",
            f"{text!r} has a local part ({version.local!r})",
            hint=f"publish it as {version.public!r}: local parts can't be compared across registries",
        )
    return version
