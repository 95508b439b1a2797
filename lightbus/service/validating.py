"""JSON Schema, draft 2020-12: the only module that uses jsonschema_rs, imported when the first schema is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidSchema, ValidationError
from ..wire.codec import json_form
from .formats import FORMATS
from .problems import Problem

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

__all__ = ["CompiledSchema"]


class CompiledSchema:
    """
    A JSON Schema that values can be checked against.

    Raises:
        InvalidSchema: it is not valid, or refers to another document.

    """

    __slots__ = ("_validator", "_what")

    def __init__(self, schema: Any, *, what: str) -> None:
        from jsonschema_rs import Draft202012Validator

        self._what = what
        try:
            self._validator: Draft202012Validator = Draft202012Validator(
                schema, mask="it", retriever=_refuse, formats=FORMATS, validate_formats=True
            )
        except Exception as error:  # a schema may come from a peer; the library raises several classes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InvalidSchema(
                f"{what} is not a valid JSON Schema: {reason}. Write it again with `dumpschema`."
            ) from error

    def problem(self, value: Any) -> Problem | None:
        """
        Return the first problem of `value`, a value as the bus carries it, or None.

        Raises:
            DeformError: the value could not be sent anyway.

        """
        error = next(self._validator.iter_errors(json_form(value, finite=True)), None)
        return None if error is None else Problem(path=error.instance_path, got=error.instance, reason=error.message)

    def validate(self, value: Any) -> None:
        """
        Check `value` against the schema.

        Raises:
            ValidationError: it does not satisfy the schema.
            DeformError: it could not be sent anyway.

        """
        problem = self.problem(value)
        if problem is not None:
            raise ValidationError(f"{self._what} is not satisfied: {problem}.")


def _refuse(uri: str) -> Any:
    # A schema may come from another peer: following its references would let that peer make us fetch any address.
    raise ValueError(f"it refers to {uri}, and references to other documents are not followed")
