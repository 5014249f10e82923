"""README's table of methods: what adpm does with each method, on which families, and what the peers do beside it.

    python -m tests.table            # adpm alone; what the peers do is known
    python -m tests.table --peers    # the peers, too: ADPM_ADAPTERHUB_PYTHON and ADPM_PEFT_PYTHON name their Pythons

Writes ``tests/table/result.json`` and the table in README. Nothing is looked up: each method is put on a small random
model of each family, has to change what comes out, to give the same when merged, and to act on its own rows alone when
others have another adapter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any, Final

from tests.table.ours import Ours, formats
from tests.table.render import README, RESULT, ROOT, in_readme
from tests.table.trial import tried

_PEERS: Final = {
    "adapters": ("ADPM_ADAPTERHUB_PYTHON", "tests.table.adapterhub"),
    "peft": ("ADPM_PEFT_PYTHON", "tests.table.peft_library"),
}


def ours() -> dict[str, Any]:
    """What adpm does now."""
    methods = tried(Ours())
    saved = formats({name: _first(found["families"]) for name, found in methods.items() if found["families"]})
    return {name: {**found, "formats": saved.get(name, [])} for name, found in methods.items()}


def _first(families: list[str]) -> str:
    return "bert" if "bert" in families else families[0]


def _peer(variable: str, module: str) -> Any:
    python = os.environ.get(variable)
    if python is None:
        sys.exit(f"{variable} must name a Python that has it")
    done = subprocess.run(
        [python, "-m", module], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.stderr.decode()[-2000:])
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="try the peers, too")
    options = parser.parse_args()
    result = json.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    if options.peers:
        result |= {name: _peer(*how) for name, how in _PEERS.items()}
    result["adpm"] = {"methods": ours()}
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    README.write_text(in_readme(README.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
