"""README is held to what exists: its links, commands, options, manifests and Python names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

import adpm
from adpm.cli.main import COMMANDS, cli
from adpm.formats.manifest import read_manifest
from tests.bench.runtime.report import RESULT, in_readme, markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_every_command_is_told_and_nothing_else() -> None:
    shell = "\n".join(text for language, text in BLOCKS if language == "sh")
    called = set(re.findall(r"(?:^|\s|/)adpm ([a-z][a-z-]*)", shell))
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))
    table = set(re.findall(r"`([a-z][a-z-]*)", rows))
    assert called <= set(COMMANDS)
    assert (called | table) >= set(COMMANDS)


def test_options_exist() -> None:
    known: set[str] = set()

    def collect(command: click.Command, ctx: click.Context) -> None:
        for parameter in command.params:
            known.update(parameter.opts)
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                inner = command.get_command(ctx, name)
                assert inner is not None
                collect(inner, ctx)

    collect(cli, click.Context(cli))
    lines = [line for line in README.splitlines() if "adpm" in line or line.startswith("| `")]
    mine = {option for line in lines if "pip" not in line for option in re.findall(r"(--[a-z][a-z-]+)", line)}
    assert mine
    assert mine <= known


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_manifests_are_valid(text: str) -> None:
    read_manifest(text.encode(), "README.md")


def test_python_names_exist() -> None:
    code = "\n".join(text for language, text in BLOCKS if language == "python")
    assert set(re.findall(r"adpm\.(\w+)", code)) <= set(adpm.__all__)
    assert all(hasattr(adpm.Adapters, name) for name in re.findall(r"adapters\.(\w+)\(", code))


def test_the_demo_figures_are_the_ones_that_were_measured() -> None:
    figures = json.loads((ROOT / "adpm" / "demo" / "figures.json").read_text(encoding="utf-8"))["accuracy"]
    rows = {
        "food reviews, great or other": ("bare_food", "stack(domain_1, food)"),
        "mail, ham or spam": ("bare_spam", "stack(domain_1, spam)"),
    }
    for row, (bare, adapted) in rows.items():
        shipped = [f"{figures[f'{name}, the 300 shipped']:.3f}" for name in (bare, adapted)]
        assert f"| {row} | {shipped[0]} | **{shipped[1]}** |" in README


def test_the_speed_table_is_what_the_bench_wrote() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert "| forward, one Pfeiffer" in README
    assert in_readme(README, result) == README
    assert markdown(result) == RESULT.with_suffix(".md").read_text(encoding="utf-8")
