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

from adpm.core.composition import Block, Composition, Rows, blocks, leaves
from tests.parity.peers.small import SMALL

ROOT: Final = Path(os.environ.get("ADPM_PARITY_DIR") or Path(__file__).parents[2].parent / "shared" / "parity")

# The methods, models and compositions that must pass; everything else may be reported as not yet supported.
MODEL_TYPES: Final = set(SMALL)
ARCHITECTURES: Final = {None, "lora", "mtl_lora", "prefix_tuning", "prompt_tuning", "reft"}
NO_PREFIX: Final = set[str]()
PEFT_REFUSED: Final = ("use_qalora",)
PEFT_KINDS: Final = {
    "ADALORA",
    "ADAPTION_PROMPT",
    "BEFT",
    "BOFT",
    "C3A",
    "DEFT",
    "DELORA",
    "FOURIERFT",
    "GLORA",
    "GRALORA",
    "HIRA",
    "HRA",
    "IA3",
    "LN_TUNING",
    "LOHA",
    "LOKR",
    "LORA",
    "MISS",
    "OFT",
    "PEANUT",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "PVERA",
    "P_TUNING",
    "RANDLORA",
    "ROAD",
    "SHIRA",
    "SUPERTUNING",
    "TINYLORA",
    "TRAINABLE_TOKENS",
    "UNILORA",
    "VBLORA",
    "VERA",
}


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
        names = list(leaves(self.composition()))
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

    def fusions(self) -> list[Path]:
        """The directories of the fusions' files in this form."""
        suffix = "_safetensors" if self.form == "safetensors" else ""
        found = [] if self.is_peft else self.json("composition.json").get("fusion") or []
        root = self.directory / f"fusion{suffix}"
        return [root / entry["name"] if (root / entry["name"]).is_dir() else root for entry in found]

    @property
    def divides_again(self) -> bool:
        """Whether the peer's average divides the weighted sum by the number of its parts, which adpm does not."""
        return any(block.kind == "average" for block in blocks(self.composition())) and not self.is_peft

    @property
    def scales(self) -> bool:
        """Whether adapters multiply a layer's output, (IA)3, instead of adding to it."""
        paths = (path / "adapter_config.json" for found in self.directories().values() for path in found)
        configs = (json.loads(path.read_text("utf-8"))["config"] for path in paths if path.is_file())
        return any(config.get("composition_mode") == "scale" for config in configs)

    def composition(self) -> Composition | Rows | None:
        """What is active, in adpm's words."""
        if self.rows:
            return Rows(tuple(None if name == "__base__" else name for name in self.rows))
        found = self.json("composition.json")
        active = found["active"]
        if active is None:
            return None
        composition: Composition = active if isinstance(active, str) else ""
        if not isinstance(active, str):
            composition = Block("stack", tuple(active)) if isinstance(active, list) else _block(active)
        skipped = found.get("skip_layers")
        return Block("skip", (composition,), tuple(map(float, skipped))) if skipped else composition

    def in_scope(self) -> bool:
        """Whether the case must pass: decided by what the peer wrote, not by what adpm says of it."""
        if self.composition() is None:
            return False
        if self.is_peft:
            return all(
                _peft_in_scope(json.loads((paths[0] / "adapter_config.json").read_text("utf-8")))
                for paths in self.directories().values()
            )
        if self.meta["model_type"] not in MODEL_TYPES:
            return False
        active = set(leaves(self.composition()))
        configs = [paths for name, paths in self.directories().items() if name in active]
        no_prefix = self.meta["model_type"] in NO_PREFIX
        return all(_hub_in_scope(path, no_prefix) for paths in configs for path in paths)


def _peft_in_scope(config: dict[str, Any]) -> bool:
    start = str(config.get("init_lora_weights")).lower()
    changes_base = start.startswith(("corda", "loftq"))
    refused = any(config.get(key) for key in PEFT_REFUSED)
    return config["peft_type"] in PEFT_KINDS and not changes_base and not refused


def _hub_in_scope(directory: Path, no_prefix: bool) -> bool:
    head = directory / "head_config.json"
    if head.exists():
        return "head_type" in json.loads(head.read_text("utf-8"))["config"]
    config = json.loads((directory / "adapter_config.json").read_text("utf-8"))["config"]
    parts = config["configs"] if config.get("architecture") == "union" else [config]
    words = {part.get("architecture") for part in parts}
    return words <= ARCHITECTURES and not (no_prefix and "prefix_tuning" in words)


def _block(active: dict[str, Any]) -> Composition:
    if active["type"] == "single":
        return str(active["children"][0])
    kind = {"BatchSplit": "batch"}.get(active["type"], active["type"].lower())
    kwargs = active.get("kwargs", {})
    weights = kwargs.get("weights") or kwargs.get("batch_sizes") or kwargs.get("splits") or ()
    return Block(kind, tuple(_block(child) for child in active["children"]), tuple(weights))


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
