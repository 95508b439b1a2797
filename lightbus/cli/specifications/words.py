"""Texts shared by all documents: titles, versions, docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..schemas.gathering import DescribedApi

__all__ = ["document_version", "split_doc", "texts"]


def document_version(apis: Mapping[str, DescribedApi], given: str | None) -> str:
    """Return the version of a document: the given one, that of its only API, or "1"."""
    if given is not None:
        return given
    versions = {api.version for api in apis.values()} - {None}
    return str(versions.pop()) if len(versions) == 1 else "1"


def split_doc(parameters: Any) -> tuple[dict[str, str], Any]:
    """Return the docstring as `summary` and `description`, and the parameters without it."""
    if not isinstance(parameters, dict) or not isinstance(parameters.get("description"), str):
        return {}, parameters
    doc = parameters["description"].strip()
    summary = " ".join(doc.partition("\n\n")[0].split())
    rest = {word: each for word, each in parameters.items() if word != "description"}
    return texts(summary=summary, description=doc if doc != summary else ""), rest


def texts(**fields: str) -> dict[str, str]:
    """Return the fields that are not empty."""
    return {name: text for name, text in fields.items() if text}
