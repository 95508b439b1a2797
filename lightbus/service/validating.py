"""JSON Schema, draft 2020-12: the one place that knows jsonschema_rs, loaded when the first schema is compiled."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidSchema, ValidationError, with_article
from ..wire.codec import json_form
from .formats import FORMATS

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

__all__ = ["CompiledSchema", "Problem", "elided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one value: where it is, what it is, and why it is not accepted."""

    path: Sequence[str | int]
    got: Any
    reason: str

    def __str__(self) -> str:
        return f"{_path_text(self.path)} is {elided(self.got)}, but {self.reason}"


class CompiledSchema:
    """
    A JSON Schema that values can be held against.

    Raises:
        InvalidSchema: it is none, or refers to a schema outside of itself.

    """

    __slots__ = ("_validator", "_what")

    def __init__(self, schema: Any, *, what: str) -> None:
        from jsonschema_rs import Draft202012Validator

        self._what = what
        try:
            self._validator: Draft202012Validator = Draft202012Validator(
                schema, mask="it", retriever=_refuse, formats=FORMATS, validate_formats=True
            )
        except Exception as error:  # a schema may come from a stranger; the library raises several classes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InvalidSchema(
                f"{what} is no valid JSON Schema: {reason}. Write it anew with `dumpschema`."
            ) from error

    def problem(self, value: Any) -> Problem | None:
        """
        Return the first thing that is wrong with `value`, a value as the bus carries it, or None.

        Raises:
            DeformError: the value could not be put on the wire anyway.

        """
        error = next(self._validator.iter_errors(json_form(value, finite=True)), None)
        return None if error is None else Problem(path=error.instance_path, got=error.instance, reason=error.message)

    def validate(self, value: Any) -> None:
        """
        Hold `value` against the schema.

        Raises:
            ValidationError: it does not satisfy it.
            DeformError: it could not be put on the wire anyway.

        """
        problem = self.problem(value)
        if problem is not None:
            raise ValidationError(f"{self._what} is not satisfied: {problem}.")


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


def _refuse(uri: str) -> Any:
    # A schema may come from another peer: following its references would let that peer make us fetch any address.
    raise ValueError(f"it refers to {uri}, and references to other documents are not followed")


_ELIDING = reprlib.Repr()
_ELIDING.maxstring = _ELIDING.maxother = 80
