"""A model card, the ``README.md`` of a repository on the Hub: made from an adapter's card, and its front matter read.

What the front matter's keys mean is fixed by the Hub: https://huggingface.co/docs/hub/model-cards. Libraries look for
``base_model``, ``library_name`` and ``tags``; the Hub shows ``model-index``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from adpm import limits
from adpm.core.release import Card, Metric
from adpm.errors import DocumentError
from adpm.formats.yaml import open_yaml

__all__ = ["GENERATED", "LIBRARIES", "TAG", "read_front_matter", "write_model_card"]

TAG: Final = "adpm"
LIBRARIES: Final[Mapping[str, str]] = {"adapterhub": "adapter-transformers", "peft": "peft"}
GENERATED: Final = (
    "<!-- Written by adpm from the release's card. Without this line the next release keeps your text. -->"
)
_FRONT: Final = re.compile(rb"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_USE: Final[Mapping[str, str]] = {
    "peft": "from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base, {repository!r}, revision={tag!r})",
    "adapterhub": "import adapters\n\nadapters.init(base)\n"
    "base.load_adapter({repository!r}, version={tag!r}, use_safetensors=True, set_active=True)",
}


def write_model_card(card: Card, repository: str) -> bytes:
    """The ``README.md`` of ``repository`` for a release that brings none."""
    front: dict[str, Any] = {"library_name": LIBRARIES[card.method.format]}
    if card.base.model is not None:
        front["base_model"] = card.base.model
    if card.license is not None:
        front["license"] = card.license.lower()
    if card.language is not None:
        front["language"] = card.language
    front["tags"] = _tags(card)
    datasets = sorted({metric.dataset for metric in card.metrics if metric.dataset is not None})
    if datasets:
        front["datasets"] = datasets
    if card.metrics:
        front["metrics"] = sorted({metric.name for metric in card.metrics})
        front["model-index"] = [{"name": str(card.name), "results": [_result(metric, card) for metric in card.metrics]}]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    trained = f" for `{card.base.model}`" if card.base.model is not None else ""
    use = _USE[card.method.format].format(repository=repository, tag=str(card.version))
    parts = [
        f"---\n{head}---\n\n{GENERATED}\n\n# {card.name} {card.version}\n",
        *([f"{card.description}\n"] if card.description is not None else []),
        f"An adapter ({card.method.kind}){trained}, published with adpm:\n",
        f"```sh\nadpm add {card.name}\n```\n",
        f"```python\n{use}\n```\n",
    ]
    return "\n".join(parts).encode("utf-8")


def _tags(card: Card) -> list[str]:
    out = [TAG, LIBRARIES[card.method.format], card.method.kind]
    if card.task is not None:
        out.append(f"adapterhub:{card.task}")
    if card.base.shape is not None and card.base.shape.model_type:
        out.append(card.base.shape.model_type)
    return list(dict.fromkeys(out))


def _result(metric: Metric, card: Card) -> dict[str, Any]:
    """One score as the Hub's ``model-index`` has it: it can't do without a task and a dataset."""
    dataset = {"name": metric.dataset or "unknown", "type": metric.dataset or "unknown"}
    if metric.split is not None:
        dataset["split"] = metric.split
    return {
        "task": {"type": (card.task or "other").partition("/")[0]},
        "dataset": dataset,
        "metrics": [{"type": metric.name, "value": metric.value}],
    }


def read_front_matter(readme: bytes) -> Mapping[str, Any]:
    """The front matter of a model card; empty where there is none, or none that can be read: people write it by hand.

    Scalars are texts (``Plain`` where they were not quoted), so that nothing depends on how a library reads ``no``.
    """
    match = _FRONT.match(readme[: limits.MANIFEST_BYTES])
    if match is None:
        return {}
    try:
        value = open_yaml(match[1], source="README.md", code="card-invalid", limit=limits.MANIFEST_BYTES).root.value
    except DocumentError:
        return {}
    return value if isinstance(value, dict) else {}
