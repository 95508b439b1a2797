"""The description of an invalid value: where it is, what it is, and why it is not accepted."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..phrases import with_article

__all__ = ["Problem", "elided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An invalid value: where it is, what it is, and why it is not accepted."""

    path: Sequence[str | int]
    got: Any
    reason: str

    def __str__(self) -> str:
        return f"{_path_text(self.path)} is {elided(self.got)}, but {self.reason}"


def elided(value: Any) -> str:
    """Return a short `repr` of any value, also of a very large one or of one whose `__repr__` raises."""
    try:
        return _ELIDING.repr(value)
    except Exception:  # an integer of more digits than Python prints
        return with_article(type(value).__name__)


def _path_text(path: Sequence[str | int]) -> str:
    if not path:
        return "it"
    first, *rest = path
    return str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


_ELIDING = reprlib.Repr()
_ELIDING.maxstring = _ELIDING.maxother = 80
