"""Formats of a JSON Schema that are ours: pydantic describes both types as a text and no more."""

from __future__ import annotations

__all__ = ["COMPLEX", "DECIMAL"]

DECIMAL = "decimal"
COMPLEX = "complex"
