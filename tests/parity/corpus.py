"""The parity corpus: adapters as the peers wrote them, with inputs and expected outputs.

``$ADPM_PARITY_DIR`` names its folder (default: ``../shared/parity`` beside the project); its README says what is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adpm.core.composition import Block, Composition
from tests.parity.peers.small import SMALL

ROOT: Final = Path(os.environ.get("ADPM_PARITY_DIR") or Path(__file__).parents[2].parent / "shared" / "parity")

# The methods, models and compositions that must pass; everything else may be reported as not yet supported.
MODEL_TYPES: Final = set(SMALL)
ARCHITECTURES: Final = {None, "lora"}
PEFT_REFUSED: Final = (
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)


@dataclass(frozen=True)
class Case:
    """One fixture in one form of its weights: ``bin`` or ``safetensors``."""

    directory: Path
    form: str

    @property
    def id(self) -> str:
        return f"{self.directory.parent.name}/{self.directory.name}-{self.form}"

    def json(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.directory / name).read_text("utf-8"))
        return value

    @property
    def meta(self) -> dict[str, Any]:
        return self.json("meta.json")

    @property
    def is_peft(self) -> bool:
        return str(self.meta["peer"]) == "peft"

    def directories(self) -> dict[str, list[Path]]:
        """Adapter names to the directories that hold their files in this form: the adapter's, then its head's."""
        composition = self.json("composition.json")
        if self.is_peft:
            return {name: [self.directory / path] for name, path in composition["paths"].items()}
        suffix = "_safetensors" if self.form == "safetensors" else ""
        out = {name: [self.directory / f"adapters{suffix}" / name] for name in composition["adapters"]}
        names = leaves_of(self.composition())
        active = composition["active_head"]
        for head in [active] if isinstance(active, str) else active or []:
            owner = head if head in out else (names[-1] if names else next(iter(out)))
            out[owner].append(self.directory / f"heads{suffix}" / head)
        return out

    @property
    def forward_kwargs(self) -> dict[str, Any]:
        """Arguments of the forward pass; adapter names for each row are no argument of a model under adpm."""
        found = self.meta.get("forward_kwargs") or self.json("composition.json").get("forward_kwargs") or {}
        return {key: value for key, value in found.items() if key != "adapter_names"}

    @property
    def rows(self) -> list[str]:
        """An adapter's name for each row of the batch, where that is what is active."""
        return list(self.json("composition.json").get("forward_kwargs", {}).get("adapter_names") or [])

    def composition(self) -> Composition | None:
        """What is active, in adpm's words."""
        active = self.json("composition.json")["active"]
        if active is None or isinstance(active, str):
            return active
        if isinstance(active, list):
            return Block("stack", tuple(active))
        return _block(active)

    def in_scope(self) -> bool:
        """Whether the case must pass: decided by what the peer wrote, not by what adpm says of it."""
        composition = self.json("composition.json")
        if self.meta["model_type"] not in MODEL_TYPES or composition.get("skip_layers"):
            return False
        if not _is_stack(self.composition()) or self.rows:
            return False
        if self.is_peft:
            return all(
                _peft_in_scope(json.loads((paths[0] / "adapter_config.json").read_text("utf-8")))
                for paths in self.directories().values()
            )
        active = set(leaves_of(self.composition()))
        configs = [paths for name, paths in self.directories().items() if name in active]
        return all(_hub_in_scope(path) for paths in configs for path in paths)


def _peft_in_scope(config: dict[str, Any]) -> bool:
    start = str(config.get("init_lora_weights")).lower()
    changes_base = start.startswith(("pissa", "olora", "corda", "loftq"))
    targets = config.get("target_modules") or ()
    if not isinstance(targets, str) and "embed_tokens" in targets:
        return False
    return config["peft_type"] == "LORA" and not changes_base and not any(config.get(key) for key in PEFT_REFUSED)


def _hub_in_scope(directory: Path) -> bool:
    head = directory / "head_config.json"
    if head.exists():
        return bool(json.loads(head.read_text("utf-8"))["config"]["head_type"] == "classification")
    config = json.loads((directory / "adapter_config.json").read_text("utf-8"))["config"]
    parts = config["configs"] if config.get("architecture") == "union" else [config]
    return all(part.get("architecture") in ARCHITECTURES for part in parts)


def _block(active: dict[str, Any]) -> Composition:
    if active["type"] == "single":
        return str(active["children"][0])
    kind = {"BatchSplit": "batch"}.get(active["type"], active["type"].lower())
    kwargs = active.get("kwargs", {})
    weights = kwargs.get("weights") or kwargs.get("batch_sizes") or kwargs.get("splits") or ()
    return Block(kind, tuple(_block(child) for child in active["children"]), tuple(weights))


def _is_stack(composition: Composition | None) -> bool:
    if isinstance(composition, Block):
        return composition.kind == "stack" and all(_is_stack(part) for part in composition.parts)
    return composition is not None


def leaves_of(composition: Composition | None) -> list[str]:
    if isinstance(composition, Block):
        return [name for part in composition.parts for name in leaves_of(part)]
    return [] if composition is None else [composition]


def cases() -> Iterator[Case]:
    """Every fixture in every form that the peer wrote."""
    for meta in sorted(ROOT.glob("*/*/meta.json")):
        directory = meta.parent
        if directory.parent.name.startswith("peft"):
            yield Case(directory, "safetensors")
            continue
        if list(directory.glob("adapters/*/*.bin")):
            yield Case(directory, "bin")
        if list(directory.glob("adapters_safetensors/*/*.safetensors")):
            yield Case(directory, "safetensors")
