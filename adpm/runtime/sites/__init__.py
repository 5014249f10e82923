"""The anatomy of each model family, as data: a new family is a table, not code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adpm.runtime.sites.bert import BERT, ROBERTA, XLM_ROBERTA
from adpm.runtime.sites.distilbert import DISTILBERT
from adpm.runtime.sites.family import Family

__all__ = ["FAMILIES", "Family"]

FAMILIES: Final[Mapping[str, Family]] = {
    family.model_type: family for family in (BERT, ROBERTA, XLM_ROBERTA, DISTILBERT)
}
