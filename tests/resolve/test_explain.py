"""The text of every kind of failure, word for word, in ``explanations/``.

A file lists the releases (``NAME VERSION [base=HIDDEN_SIZE] [yanked[=REASON]] [published=TIME] [license=ID]
[accuracy=NUMBER] [: REQUIREMENT; ...]``), the lines of the manifest as they would stand in ``adapter.yaml`` from line
3 on, perhaps the hidden size of the project's base, what the project overrides (from line 30 on), excludes and leaves
out as newer than a moment, and what the user is told.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adpm.core.metrics import Floor
from adpm.core.names import PackageName
from adpm.core.release import Listing, Metric
from adpm.core.requirement import Requirement
from adpm.errors import NoSolutionError
from adpm.resolve.problem import Problem, Wanted
from adpm.resolve.solve import resolve
from tests.resolve.shelf import ANY_BASE, Shelf, base, listing, wanted

FILES = sorted((Path(__file__).parent / "explanations").glob("*.txt"))


def sections(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = found.setdefault(line[2:], [])
        else:
            lines.append(line)
    return found


def release(line: str) -> Listing:
    head, _, requires = line.partition(": ")
    name, version, *flags = head.split()
    options = dict(flag.partition("=")[::2] for flag in flags)
    yanked = options.get("yanked")
    return listing(
        name,
        version,
        *(requires.split("; ") if requires else ()),
        yanked=None if yanked is None else yanked.replace("_", " "),
        fits=base(int(options["base"])) if "base" in options else ANY_BASE,
        published=options.get("published"),
        license_=options.get("license"),
        metrics=(Metric("accuracy", float(options["accuracy"])),) if "accuracy" in options else (),
    )


def overrides(parts: dict[str, list[str]]) -> tuple[Wanted, ...]:
    """One a line, as they stand in a list of ``overrides:``."""
    return tuple(
        Wanted(Requirement.parse(line), f"adapter.yaml:{number}", f'- "{line}"')
        for number, line in enumerate(parts.get("overrides", ()), 30)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_explanation(path: Path) -> None:
    parts = sections(path)
    project = base(int(parts["base"][0])) if "base" in parts else None
    problem = Problem(
        tuple(replace(w, floors=tuple(map(Floor.parse, parts.get("where", ())))) for w in wanted(*parts["wanted"])),
        project,
        overrides=overrides(parts),
        exclude=frozenset(map(PackageName, parts.get("exclude", ()))),
        licenses=tuple(parts["licenses"]) if "licenses" in parts else None,
        before=parts["before"][0] if "before" in parts else None,
    )
    with pytest.raises(NoSolutionError) as caught:
        resolve(problem, Shelf(*map(release, parts["releases"])), threads=1)
    error = caught.value
    assert (error.code, error.exit_status) == ("no-solution", 3)
    assert f"{error.cause}\nhint: {error.hint}".splitlines() == parts["says"]


def test_there_are_many() -> None:
    assert len(FILES) >= 30
