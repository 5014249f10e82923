"""How a user names what is wanted: one grammar in the manifest, on the command line and in cards.

    requirement = NAME [SPECIFIERS]            text/sst-2 >=1.2,<2
                | NAME "@" DIGEST              text/sst-2@sha256:9f86d0...
                | NAME "@" CHANNEL             text/sst-2@prod

SPECIFIERS are PEP 440 version specifiers (``>=1.2,<2``, ``~=1.0``, ``==1.4``), read by ``packaging``. ``===`` compares
strings, not versions, and is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Self

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet

from adpm import limits
from adpm.core.names import Channel, Digest, PackageName
from adpm.errors import UsageError

__all__ = ["Requirement", "parse_specifiers"]

_OPERATORS: Final = ("==", "~=", ">=", ">", "!=", "<=", "<")  # lower bounds before upper ones, as people write them
_SPLIT: Final = re.compile(r"([^\s<>=!~@]+)\s*(.*)\Z", re.DOTALL)


def parse_specifiers(text: str) -> SpecifierSet:
    """PEP 440 specifiers; the empty text admits every version. Raises ``UsageError`` (``constraint-invalid``)."""
    try:
        if len(text) > limits.CONSTRAINT_CHARACTERS:
            raise InvalidSpecifier
        specifiers = SpecifierSet(text)
    except InvalidSpecifier:
        raise UsageError(
            "constraint-invalid",
            f"{text[:80]!r} is not a version constraint",
            hint=f"constraints follow PEP 440: '>=1.2,<2', '~=1.0', '==1.4', '!=1.3'; at most "
            f"{limits.CONSTRAINT_CHARACTERS} characters",
        ) from None
    if any(s.operator == "===" for s in specifiers):
        raise UsageError(
            "constraint-invalid",
            f"{text[:80]!r} uses '===', which compares texts, not versions",
            hint="write '==' instead",
        )
    return specifiers


def _spelling(specifier: Specifier) -> tuple[int, str]:
    return _OPERATORS.index(specifier.operator), specifier.version


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package and the releases of it that will do: a set of versions, or one release, by its digest or a channel.

    Only a project asks for a channel, and only its registry knows what it means: what releases require names none.
    """

    name: PackageName
    specifiers: SpecifierSet = field(default_factory=SpecifierSet)
    digest: Digest | None = None
    channel: Channel | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the grammar above; raise ``UsageError`` with the code of the part that is wrong."""
        match = _SPLIT.match(text.strip())
        if match is None:
            raise UsageError(
                "requirement-invalid",
                f"{text[:80]!r} is not a requirement",
                hint="write a name and perhaps a constraint: text/sst-2 >=1.2",
            )
        name, rest = PackageName.parse(match[1]), match[2].strip()
        if rest.startswith("@"):
            one = rest[1:].strip()
            return cls(name, digest=Digest.parse(one)) if ":" in one else cls(name, channel=Channel.parse(one))
        return cls(name, parse_specifiers(rest))

    @classmethod
    def fixed(cls, text: str) -> Self:
        """As ``parse``, for what means the same wherever it is read: a channel is refused (``channel-misplaced``)."""
        requirement = cls.parse(text)
        if requirement.channel is not None:
            raise UsageError(
                "channel-misplaced",
                f"{text.strip()[:200]!r} asks for a channel",
                hint="a channel may stand under 'adapters:' alone; write versions here, such as '>=1.2,<2'",
            )
        return requirement

    @property
    def constraint(self) -> str:
        """The part after the name, in canonical form: ``>=1.2,<2``, ``@sha256:...``, ``@prod`` or the empty text."""
        if self.digest is not None or self.channel is not None:
            return f"@{self.digest or self.channel}"
        return ",".join(dict.fromkeys(str(s) for s in sorted(self.specifiers, key=_spelling)))

    def __str__(self) -> str:
        if self.digest is not None or self.channel is not None:
            return f"{self.name}{self.constraint}"
        return f"{self.name} {self.constraint}" if self.constraint else str(self.name)
