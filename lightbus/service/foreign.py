"""The schema of an API that is declared elsewhere: read from a file, or received from a peer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..exceptions import InvalidName, InvalidSchema, ValidationError, did_you_mean
from ..typing import JsonSchema, Kwargs
from .declared import check_api_name
from .validating import CompiledSchema

__all__ = ["ForeignApi", "ForeignSignature", "parse", "read_file"]

# The parts in the schema of one procedure or one event.
_PARTS = {"rpcs": ("parameters", "response"), "events": ("parameters",)}


class ForeignSignature:
    """
    A procedure or an event of which only the schema is known; with the methods of `Signature` that this allows.

    Attributes:
        parameter_schema: JSON Schema of the arguments.
        response_schema: JSON Schema of the result; None for an event.

    Raises:
        InvalidSchema: one of them is not a JSON Schema.

    """

    def __init__(self, label: str, parts: Mapping[str, JsonSchema]) -> None:
        self._label = label
        self.parameter_schema = parts["parameters"]
        self.response_schema = parts.get("response")
        self._exact, self._required = _quick_checks(self.parameter_schema)
        self._parameters = CompiledSchema(self.parameter_schema, what=f"The schema of {label}")
        # An event has no result: any value is accepted.
        self._response = CompiledSchema(parts.get("response", {}), what=f"The schema of the result of {label}")

    def passes(self, kwargs: Kwargs) -> bool:
        """Return whether the arguments are complete, and exactly of the types in the schema."""
        exact = self._exact
        for name, value in kwargs.items():
            kinds = exact.get(name)
            if kinds is None or (kinds and type(value) not in kinds):
                return False
        return self._required <= kwargs.keys()

    def validate(self, kwargs: Kwargs) -> None:
        """
        Check the arguments.

        Raises:
            ValidationError: they do not satisfy the schema.

        """
        self._check_names(kwargs)
        problem = self._parameters.problem(kwargs)
        if problem is not None:
            raise ValidationError(f"{self._label}: {problem}.")

    def _check_names(self, kwargs: Kwargs) -> None:
        """Raise for a wrong or missing name the error that a declared Api raises."""
        schema: Any = self.parameter_schema
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict):
            return
        known = [str(name) for name in properties]
        for name in kwargs if schema.get("additionalProperties") is False else ():
            if name not in properties:
                near = did_you_mean(str(name), known)
                raise ValidationError(
                    f"{self._label} has no parameter '{name}'.{near} It has: {', '.join(known) or 'none'}."
                )
        for name in known:
            if name in self._required and name not in kwargs:
                raise ValidationError(f"{self._label} needs the argument '{name}', which is missing.")

    def validate_received(self, kwargs: Kwargs) -> None:
        """
        Check the arguments of an event, without unknown ones: its publisher may have a later version.

        Raises:
            ValidationError: they do not satisfy the schema.

        """
        schema: Any = self.parameter_schema  # `true` is one, too
        if isinstance(schema, dict) and schema.get("additionalProperties") is False:
            own = schema.get("properties", {})
            kwargs = {name: value for name, value in kwargs.items() if name in own}
        self._parameters.validate(kwargs)

    def validate_response(self, value: Any) -> None:
        """
        Check the result.

        Raises:
            ValidationError: it does not satisfy the schema.

        """
        self._response.validate(value)


_EXACT: Mapping[str, frozenset[type]] = {
    "string": frozenset({str}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "boolean": frozenset({bool}),
    "null": frozenset({type(None)}),
}
_ANNOTATION_KEYWORDS = frozenset({"title", "description", "default", "examples"})


def _quick_checks(schema: Any) -> tuple[dict[str, frozenset[type]], frozenset[str]]:
    """Return the types of arguments that need no further check (an empty set: any type), and the required names."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return {}, frozenset()
    exact = {name: _exact(part) for name, part in schema["properties"].items()}
    required = schema.get("required")
    names = frozenset(each for each in required if isinstance(each, str)) if isinstance(required, list) else frozenset()
    if schema.keys() & {"allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "propertyNames"}:
        return {}, names
    return {name: kinds for name, kinds in exact.items() if kinds is not None}, names


def _exact(schema: Any) -> frozenset[type] | None:
    """Return the types all of whose values satisfy a schema; None if it is not that simple."""
    if not isinstance(schema, dict):
        return None
    said = {key: part for key, part in schema.items() if key not in _ANNOTATION_KEYWORDS}
    if not said:
        return frozenset()
    if said.keys() == {"type"}:
        return _EXACT.get(said["type"]) if isinstance(said["type"], str) else None
    if said.keys() == {"anyOf"} and isinstance(said["anyOf"], list):
        choices = [_exact(each) for each in said["anyOf"]]
        if all(choices):
            return frozenset().union(*(each for each in choices if each is not None))
    return None


class ForeignApi:
    """
    One API's schema: `{"rpcs": {name: {"parameters": ..., "response": ...}}, "events": {name: {"parameters": ...}}}`.

    Attributes:
        api_name: the API it describes.
        rpcs: its procedures by name.
        events: its events by name.

    Raises:
        InvalidSchema: it has another form, or a part of it is not a JSON Schema.

    """

    def __init__(self, api_name: str, schema: Any) -> None:
        _check_form(api_name, schema)
        self.api_name = api_name
        self.rpcs, self.events = (
            {name: ForeignSignature(f"{api_name}.{name}", parts) for name, parts in schema.get(kind, {}).items()}
            for kind in _PARTS
        )


def read_file(path: Path) -> Iterator[ForeignApi]:
    """
    Yield the APIs in a file: several by name, or a single one, named like the file (`auth.json`).

    Raises:
        InvalidSchema: the file cannot be read, or has another form; the message names the file.

    """
    try:
        yield from parse(path.read_text("utf-8"), name=path.stem)
    except (InvalidSchema, OSError, ValueError) as error:
        raise InvalidSchema(f"The schema file {path} cannot be used: {error}") from error


def parse(text: str, *, name: str) -> Iterator[ForeignApi]:
    """
    Yield the APIs in the text of a schema file.

    Arguments:
        text: the output of `dumpschema`.
        name: the name of the API, if the text describes one without a name.

    Raises:
        InvalidSchema: it is not JSON, or has another form.

    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSchema(f"it is not JSON ({error}). Write it again with `lightbus dumpschema`.") from error
    if not isinstance(document, dict):
        raise InvalidSchema("it is not a JSON object. Write it again with `lightbus dumpschema`.")
    apis = {name: document} if document.keys() <= _PARTS.keys() and document else document
    for api_name, schema in apis.items():
        yield ForeignApi(api_name, schema)


def _check_form(api_name: str, schema: Any) -> None:
    try:
        check_api_name(api_name)
    except InvalidName as error:
        raise InvalidSchema(str(error)) from error
    wrong = f"The schema of '{api_name}' does not have the form that `lightbus dumpschema` writes: "
    if not isinstance(schema, dict) or not schema.keys() <= _PARTS.keys():
        raise InvalidSchema(f"{wrong}it is not an object with the keys 'rpcs' and 'events'.")
    for kind, members in schema.items():
        if not isinstance(members, dict):
            raise InvalidSchema(f"{wrong}its '{kind}' is no object.")
        for name, parts in members.items():
            if not isinstance(parts, dict) or set(parts) != set(_PARTS[kind]):
                raise InvalidSchema(f"{wrong}'{name}' does not have exactly the keys {', '.join(_PARTS[kind])}.")
