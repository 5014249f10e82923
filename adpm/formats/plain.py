"""The package that a directory of PEFT's or AdapterHub's holds as it is: which files count, and the card they make.

Nobody wrote a card for it, so all of it comes from ``adapter_config.json`` and the front matter of ``README.md``. The
same files make the same bytes, always: ``specs/hub.md`` is the normative text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from packaging.version import Version

from adpm import limits
from adpm.core.base import BaseIdentity
from adpm.core.names import PackageName
from adpm.core.release import Card, Metric
from adpm.errors import AdapterError, DocumentError, Fault
from adpm.formats.card import language, license_, metric, read_card, task, write_card
from adpm.formats.contents import method_of
from adpm.formats.json import parse_json
from adpm.formats.model_card import read_front_matter
from adpm.formats.reader import Decoder, Document, text

__all__ = ["CONFIG", "README", "plain_card", "plain_files", "plain_name", "plain_version", "read_config"]

T = TypeVar("T")

CONFIG: Final = "adapter_config.json"
README: Final = "README.md"
# Files of a package, and what each may come from, in the order of preference.
_PEFT: Final = {"adapter_model.safetensors": ("adapter_model.safetensors", "adapter_model.bin")}
_ADAPTERHUB: Final = {"adapter.safetensors": ("adapter.safetensors", "pytorch_adapter.bin")}
# What may lie beside AdapterHub's adapter, by its config: a head, and the weights by which adapters are fused.
_BESIDE: Final = {
    "head_config.json": {"model_head.safetensors": ("model_head.safetensors", "pytorch_model_head.bin")},
    "adapter_fusion_config.json": {
        "model_adapter_fusion.safetensors": ("model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin")
    },
}
_DOCUMENTS: Final = (README, "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?\Z")
_COMMIT_DIGITS: Final = 12  # of 40, in a version
_TASK_TAG: Final = "adapterhub:"


def plain_name(place: str) -> PackageName:
    """A package's name for a place: in small letters, what no name holds as ``-``, one separator where several meet."""
    parts = [re.sub(r"[^a-z0-9._-]", "-", part) for part in place.lower().split("/")]
    return PackageName.parse("/".join(re.sub(r"([._-])[._-]+", r"\1", part).strip("._-") for part in parts))


def plain_version(commit: str | None) -> Version:
    """A version for what has none: a development version, whose number is how the commit begins, or 0 without one."""
    return Version(f"0.dev{0 if commit is None else int(commit[:_COMMIT_DIGITS], 16)}")


def read_config(data: bytes, source: str) -> dict[str, Any]:
    """The content of an ``adapter_config.json``; raises ``DocumentError`` (``adapter-config-invalid``)."""
    value = parse_json(data, source=source, code="adapter-config-invalid", limit=limits.CONFIG_BYTES)
    if not isinstance(value, dict):
        raise DocumentError("adapter-config-invalid", source, [Fault("", "is not a JSON object")])
    return value


def plain_files(names: Collection[str], config: Mapping[str, Any], source: str) -> dict[str, str]:
    """Path in the package -> name of the file that it comes from, of those in ``names``. One that ends in ``.bin`` is
    to be converted. Raises ``AdapterError`` (``adapter-files-missing``).
    """
    out = {CONFIG: CONFIG} | {name: name for name in _DOCUMENTS if name in names}
    wanted = dict(_PEFT if "peft_type" in config else _ADAPTERHUB)
    for settings, weights in _BESIDE.items() if "peft_type" not in config else ():
        if settings in names and any(name in names for sources in weights.values() for name in sources):
            wanted |= weights
            out[settings] = settings
    for path, sources in wanted.items():
        found = next((name for name in sources if name in names), None)
        if found is None:
            raise AdapterError(
                "adapter-files-missing",
                f"{source} has no {sources[0]}",
                cause=f"nor {sources[1]}; it holds {', '.join(sorted(names)[:20]) or 'no files'}",
                hint="an adapter is adapter_config.json and the weights that PEFT or AdapterHub save beside it",
            )
        out[path] = found
    return out


def plain_card(
    name: PackageName, version: Version, config: Mapping[str, Any], readme: bytes, converted: Mapping[str, str]
) -> bytes:
    """The card, as bytes. ``converted``: the pickles (name -> digest) whose weights the package has as safetensors."""
    front = read_front_matter(readme)
    method = method_of(config)
    notes = [f"{path} ({digest}) as safetensors" for path, digest in sorted(converted.items())]
    revision = config.get("revision")
    card = Card(
        name=name,
        version=version,
        base=BaseIdentity(
            _model(front.get("base_model"))
            or _model(config.get("base_model_name_or_path"))
            or _model(config.get("model_name")),
            _valid(text, revision) if method.format == "peft" else None,
            None,
            None,
        ),
        method=method,
        description=", ".join(notes) or None,
        task=_task(front),
        language=_valid(language, _only(front.get("language"))),
        license=_license(front),
        metrics=_metrics(front),
    )
    data = write_card(card)
    read_card(data, f"the card made for {name} {version}")
    return data


def _valid(decoder: Decoder[T], value: object) -> T | None:
    """``value`` if a card may hold it: people write what they like."""
    document = Document(value, source="README.md", code="card-invalid")
    found = document.root.decode(decoder)
    return None if document.faults else found


def _only(value: object) -> object:
    """The only element of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _model(value: object) -> str | None:
    """A model's id; a path on somebody's machine is none."""
    value = _only(value)
    return str(value) if isinstance(value, str) and _MODEL.match(value) and ".." not in value else None


def _license(front: Mapping[str, Any]) -> str | None:
    value = _only(front.get("license"))
    return _valid(license_, front.get("license_name") if value == "other" else value)


def _task(front: Mapping[str, Any]) -> str | None:
    tags = front.get("tags")
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, str) and tag.startswith(_TASK_TAG) and (found := _valid(task, tag.removeprefix(_TASK_TAG))):
            return found
    return _valid(task, front.get("pipeline_tag"))


def _metrics(front: Mapping[str, Any]) -> tuple[Metric, ...]:
    """The scores of ``model-index`` that have a name and a number."""
    out = []
    for model in _mappings(front.get("model-index")):
        for result in _mappings(model.get("results")):
            of = result.get("dataset")
            dataset = of if isinstance(of, dict) else {}
            for score in _mappings(result.get("metrics")):
                parts = {
                    "name": score.get("type") or score.get("name"),
                    "value": score.get("value"),
                    "dataset": dataset.get("type") or dataset.get("name"),
                    "split": dataset.get("split"),
                }
                found = _valid(metric, {key: value for key, value in parts.items() if isinstance(value, str)})
                if found is not None:
                    out.append(found)
    return tuple(out[: limits.METRICS])


def _mappings(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
