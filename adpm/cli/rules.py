"""What the options of commands that resolve stand in for."""

from __future__ import annotations

from dataclasses import replace

from adpm.core.moment import cutoff
from adpm.core.rules import Resolution
from adpm.ops.project import Project

__all__ = ["with_rules"]


def with_rules(project: Project, resolution: Resolution | None, exclude_newer: str | None) -> Project:
    """``project`` as these options want it; None leaves what its manifest says."""
    rules = project.manifest.rules
    if resolution is not None:
        rules = replace(rules, resolution=resolution)
    if exclude_newer is not None:
        rules = replace(rules, exclude_newer=cutoff(exclude_newer))
    return project.ruled(rules)
