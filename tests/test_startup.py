"""Start-up is a feature: what may be imported, and what the public surface is, is held here."""

from __future__ import annotations

import subprocess
import sys

import adpm

STANDARD = set(sys.stdlib_module_names)
PROBE = """
import sys
{action}
names = {{name.partition(".")[0] for name in sys.modules}} - {{"__main__", "__mp_main__"}}
print(*sorted(names))
print(*sorted(name for name in sys.modules if name.startswith("adpm.")))
"""


def imported(action: str) -> tuple[set[str], set[str]]:
    """Third-party top-level modules and adpm's own modules after ``action`` in a new interpreter without site hooks."""
    code = PROBE.format(action=action)
    path = [p for p in sys.path if p]
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *_, tops, own = run.stdout.splitlines()
    third = {name for name in tops.split() if "cython" not in name}  # what compiled modules leave behind
    return third - STANDARD - {"adpm"}, set(own.split())


def test_importing_adpm_imports_nothing_else() -> None:
    third, own = imported("import adpm")
    assert third == set()
    assert own == set()


def test_help_imports_click_and_no_command() -> None:
    third, own = imported(
        "from click.testing import CliRunner\nfrom adpm.cli.main import cli\n"
        "assert 'Commands' in CliRunner().invoke(cli, ['--help']).output"
    )
    assert third == {"click"}
    assert own == {"adpm.cli", "adpm.cli.main", "adpm.cli.output", "adpm.errors", "adpm.version"}


def test_a_no_op_install_imports_no_network_library_and_no_solver() -> None:
    third, own = imported("import adpm.cli.commands.install")
    assert third <= {"click", "yaml", "_yaml", "packaging"}
    assert "adpm.net.wire" not in own


def test_a_no_op_lock_imports_no_network_library_and_no_solver() -> None:
    third, own = imported("import adpm.cli.commands.lock")
    assert third <= {"click", "packaging"}
    assert not own & {"adpm.ops.project", "adpm.ops.lock", "adpm.cli.lock", "adpm.net.wire"}


def test_what_fetches_imports_little() -> None:
    third, _ = imported("import adpm.ops.fetch, adpm.registry.web")
    assert third <= {"yaml", "_yaml", "packaging", "platformdirs"}


def test_public_surface() -> None:
    assert adpm.__all__ == ["Adapters", "AdpmError", "__version__", "attach", "load", "merge"]
    assert dir(adpm) == sorted(adpm.__all__)
    assert adpm.AdpmError.__name__ == "AdpmError"
