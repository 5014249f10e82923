"""The runtime's bench says what it measured: its rows, its quartiles, what it calls met."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.bench.runtime.plot import Panel, plot
from tests.bench.runtime.report import markdown, readme_table, summary
from tests.bench.runtime.rows import CONTENDERS, ROWS, TASKS


def test_every_row_shows_a_task_that_adpm_does() -> None:
    tasks = {task.key: task for task in TASKS}
    assert all(tasks[row.task].who <= set(CONTENDERS) and "adpm" in tasks[row.task].who for row in ROWS)
    assert {row.task for row in ROWS} == set(tasks)


def test_quartiles_are_those_of_the_rounds() -> None:
    found = summary([{"wall": value} for value in (1.0, 2.0, 3.0, 4.0, 5.0)])
    assert found == {"wall": {"low": 2.0, "median": 3.0, "high": 4.0, "rounds": 5}}
    assert summary([{"wall": 1.5}])["wall"] == {"low": 1.5, "median": 1.5, "high": 1.5, "rounds": 1}


@pytest.mark.parametrize(("median", "verdict"), [(1.02, "met"), (1.0249, "met"), (1.026, "**missed**")])
def test_a_goal_is_met_to_its_own_digits(median: float, verdict: str) -> None:
    figures = summary([{"wall": median, "cpu": 1.2}])
    peer = summary([{"wall": 1.06, "cpu": 1.07}])
    result = {
        "rounds": 1,
        "machine": {"processor": "x", "cores": 2, "load": [0.1, 0.2]},
        "versions": {"adapters": {"adapters": "1.3.0"}},
        "figures": {"pfeiffer.B1xT16": {"adpm": figures, "adapters": peer}},
    }
    title = "forward, one Pfeiffer (reduction 16), B1xT16"
    line = f"| {title} | 1.060; 1.070 |  | {median:.3f}; 1.200 | 1.025 | {verdict} |\n"
    assert line in markdown(result)
    assert f"| {title} | 1.060 |  | {median:.3f} | 1.025: {verdict} |\n" in readme_table(result)


def test_a_plot_puts_its_points_where_they_belong() -> None:
    panels = [Panel("time <ms>", [(1, 10.0), (10, 100.0), (100, 1000.0)]), Panel("flat", [(1, 5.0), (2, 5.0)])]
    root = ET.fromstring(plot(panels, columns=2))  # noqa: S314 - our own
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter() if dot.tag.endswith("circle")]
    (x1, y1), (x2, y2), (x3, y3), (_, flat1), (_, flat2) = dots
    assert x1 < x2 < x3
    assert y1 > y2 > y3
    assert abs((x1 + x3) / 2 - x2) <= 0.1  # logarithmic on both axes
    assert abs((y1 + y3) / 2 - y2) <= 0.1
    assert flat1 == flat2
    assert "time <ms>" in [text.text for text in root.iter() if text.tag.endswith("text")]
