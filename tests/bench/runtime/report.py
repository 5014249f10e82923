"""What was measured, as tables: `python -m tests.bench.runtime.report` puts README's speed table in place."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.runtime.rows import CONTENDERS, ROWS, Row

__all__ = ["RESULT", "ROOT", "in_readme", "markdown", "readme_table", "summary"]

ROOT: Final = Path(__file__).parents[3]
RESULT: Final = ROOT / "tests" / "bench" / "results" / "runtime.json"
_BEGIN, _END = "<!-- speed -->", "<!-- /speed -->"
Result = Mapping[str, Any]
Spread = Mapping[str, float]


def summary(rounds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Of each figure the median and the quartiles over the rounds."""
    out: dict[str, dict[str, float]] = {}
    for figure in rounds[0]:
        values = [found[figure] for found in rounds]
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        out[figure] = {"low": _round(low), "median": _round(middle), "high": _round(high), "rounds": len(values)}
    return out


def _round(value: float) -> float:
    """Five significant digits, more than any figure has."""
    return float(f"{value:.5g}")


def markdown(result: Result) -> str:
    """The whole table, with what it was measured on."""
    machine, versions = result["machine"], result["versions"]
    about = (
        f"Measured on {machine['processor']}, {machine['cores']} cores, load average {machine['load'][0]} before and "
        f"{machine['load'][1]} after, {result['rounds']} rounds, one thread. Medians of the rounds, quartiles in "
        "brackets; ratios of wall time, of CPU time behind the semicolon."
    )
    lines = [
        about,
        "",
        *(
            f"- {name}: {', '.join(f'{package} {version}' for package, version in found.items())}"
            for name, found in versions.items()
        ),
        "",
        "| work | adapters | peft | adpm | adpm is to reach | |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        cells = {name: _cell(row, spread) for name in CONTENDERS if (spread := _figures(result, row, name))}
        if cells:
            shown = [cells.get(name, "") for name in ("adapters", "peft", "adpm")]
            lines.append(f"| {row.title} | {' | '.join(shown)} | {_target(row)} | {_verdict(result, row)} |")
    return "\n".join(lines) + "\n"


def readme_table(result: Result) -> str:
    """README's table: wall times, medians alone."""
    versions = result["versions"]
    peers = [f"{name} {versions[name][name]}" if name in versions else name for name in ("adapters", "peft")]
    lines = [f"| work | {' | '.join(peers)} | adpm | goal |", "|---|---|---|---|---|"]
    for row in ROWS:
        found = {name: figures for name in CONTENDERS if (figures := _figures(result, row, name))}
        if row.readme and found:
            medians = {name: _value(row, figures[row.figure]["median"]) for name, figures in found.items()}
            shown = [medians.get(name, "") for name in ("adapters", "peft", "adpm")]
            verdict = _verdict(result, row)
            goal = f"{_target(row)}: {verdict}" if verdict else ""
            lines.append(f"| {row.title} | {' | '.join(shown)} | {goal} |")
    return "\n".join(lines) + "\n"


def in_readme(readme: str, result: Result) -> str:
    """``readme`` with the table between its markers."""
    table = f"{_BEGIN}\n{readme_table(result)}{_END}"
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: table, readme, flags=re.DOTALL)


def _figures(result: Result, row: Row, name: str) -> Mapping[str, Spread]:
    found: Mapping[str, Spread] = result["figures"].get(row.task, {}).get(name, {})
    return found if row.figure in found else {}


def _value(row: Row, value: float) -> str:
    return f"{value:.{row.digits}f}{' ms' if row.unit == 'ms' else ''}"


def _cell(row: Row, figures: Mapping[str, Spread]) -> str:
    spread = figures[row.figure]
    out = _value(row, spread["median"])
    if spread["rounds"] > 1:
        out += f" ({spread['low']:.{row.digits}f} to {spread['high']:.{row.digits}f})"
    cpu = figures.get(row.figure.replace("wall", "cpu")) if row.figure.startswith("wall") else None
    return out if cpu is None else f"{out}; {cpu['median']:.{row.digits}f}"


def _target(row: Row) -> str:
    return "" if row.target is None else f"{row.target:g}{' ms' if row.unit == 'ms' else ''}"


def _verdict(result: Result, row: Row) -> str:
    """Whether adpm's median, with as many digits as the target has, is at most the target."""
    figures = _figures(result, row, "adpm")
    if row.target is None or not figures:
        return ""
    digits = max(2, len(f"{row.target:g}".partition(".")[2]))
    return "met" if round(figures[row.figure]["median"], digits) <= row.target else "**missed**"


def main() -> None:
    readme = ROOT / "README.md"
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    readme.write_text(in_readme(readme.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
