"""``adpm info``."""

from __future__ import annotations

from typing import Any

import click

from adpm.cli.output import Output, size_text
from adpm.cli.project import project_or_none
from adpm.core.requirement import Requirement
from adpm.ops.info import Info, info


@click.command()
@click.argument("requirement", metavar="NAME")
@click.option("--registry", metavar="NAME", help="Ask this registry alone: one of the project, or a path or URL.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def command(output: Output, requirement: str, registry: str | None, *, as_json: bool) -> None:
    """Show a package's releases and the card of the newest, or of the one that a constraint picks."""
    project = project_or_none(output)
    found = info(Requirement.parse(requirement), project, output.directory, registry=registry)
    if as_json:
        output.json("adpm.info/1", _value(found))
        return
    for name, value in _lines(found):
        output.data(f"{name + ':':13} {value}")
    output.data("versions:")
    for listing in found.listings:
        yanked = "" if listing.yanked is None else f"  yanked: {listing.yanked}".rstrip(": ")
        output.data(f"  {listing.version!s:14} {listing.published or '':22} {listing.manifest.digest.short}{yanked}")


def _lines(found: Info) -> list[tuple[str, str]]:
    card, base = found.card, found.card.base
    size = sum(file.blob.size for file in found.release.files)
    dimensions = ", ".join(f"{name} {value}" for name, value in base.shape.dimensions) if base.shape else ""
    lines = [
        ("package", f"{card.name} {card.version}"),
        ("about", card.description),
        ("base", base.model),
        ("fits", f"{base.shape.model_type}: {dimensions}" if base.shape else None),
        ("method", f"{card.method.kind} ({card.method.format})"),
        ("task", card.task),
        ("language", card.language),
        ("license", card.license),
        *(("score", _score(metric.name, metric.value, metric.dataset, metric.split)) for metric in card.metrics),
        *(("requires", str(requirement)) for requirement in card.requires),
        ("size", f"{size_text(size)} in {len(found.release.files)} files"),
        ("release", found.release.manifest.digest),
        ("registry", found.registry),
    ]
    return [(name, value) for name, value in lines if value]


def _score(name: str, value: float, dataset: str | None, split: str | None) -> str:
    where = "/".join(part for part in (dataset, split) if part)
    return f"{name} {value:g}" + (f" on {where}" if where else "")


def _value(found: Info) -> dict[str, Any]:
    card = found.card
    return {
        "package": card.name,
        "version": str(card.version),
        "release": found.release.manifest.digest,
        "registry": found.registry,
        "description": card.description,
        "base": card.base.model,
        "method": {"format": card.method.format, "kind": card.method.kind},
        "task": card.task,
        "language": card.language,
        "license": card.license,
        "metrics": [{"name": m.name, "value": m.value, "dataset": m.dataset, "split": m.split} for m in card.metrics],
        "requires": [str(requirement) for requirement in card.requires],
        "files": {f.path: {"digest": f.blob.digest, "size": f.blob.size} for f in found.release.files},
        "versions": [
            {
                "version": str(listing.version),
                "release": listing.manifest.digest,
                "published": listing.published,
                "yanked": listing.yanked,
            }
            for listing in found.listings
        ],
    }
