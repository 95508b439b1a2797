"""The parameters and results of procedures and events: as text, as JSON Schema, validated, cast.

Values whose exact types the annotations name pass without pydantic or jsonschema_rs being loaded: most calls take this
path. All other values are checked against the JSON Schema, and cast by `casting.py`.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..exceptions import DeformError, ValidationError, did_you_mean
from ..typing import JsonSchema, Kwargs
from ..wire.codec import json_form
from .exact_match import ExactMatch
from .parameters import Parameter, WildcardParameter, annotation_text, empty, of_function
from .plain_types import plain_schema, plain_schemas
from .problems import Problem
from .scopes import NO_SCOPE, Scope
from .validating import CompiledSchema

if TYPE_CHECKING:
    from .casting import Caster

__all__ = ["DRAFT", "Signature"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_RESULT = "the result"


class Signature:
    """
    The parameters and the result of one procedure or event. Costly parts are created when first needed, and cached.

    Attributes:
        kind: "RPC" or "Event".
        api_name: the Api it belongs to.
        name: the name of the procedure or event.
        parameters: the parameters in the order of their declaration, without the wildcard.
        wildcard: the parameter that takes all further arguments, or None.
        returns: annotation of the result; `inspect.Parameter.empty` if there is none.

    """

    def __init__(
        self,
        *,
        kind: Literal["RPC", "Event"],
        api_name: str,
        name: str,
        parameters: Iterable[Parameter],
        returns: Any = empty,
    ) -> None:
        declared = tuple(parameters)
        self.kind = kind
        self.api_name = api_name
        self.name = name
        self.parameters = tuple(each for each in declared if not isinstance(each, WildcardParameter))
        self.wildcard = next((each for each in declared if isinstance(each, WildcardParameter)), None)
        self.returns = returns
        self._names = frozenset(each.name for each in self.parameters)
        self.optional = tuple(each for each in self.parameters if not each.is_required)
        """The parameters that have a default."""
        exact = ExactMatch(self.parameters, self.wildcard, returns)
        self.passes = exact.arguments
        """Returns whether arguments are complete, and exactly of the types in the annotations."""
        self.all_pass = exact.arguments_of_all
        """Returns the same for the arguments of several events; False also if their names differ."""
        self.result_passes = exact.result
        """Returns whether a result is exactly of the type in its annotation."""

    @classmethod
    def of_function(
        cls, function: Callable[..., Any], *, api_name: str, name: str, scope: Scope = NO_SCOPE
    ) -> Signature:
        """
        Return the signature of a procedure.

        Arguments:
            function: the function as callers see it, without `self`.
            api_name: the Api it belongs to.
            name: its name on the bus.
            scope: what its annotations may use besides the globals of its module.

        Raises:
            InvalidDeclaration: a required parameter cannot be given by name.
            InvalidName: a parameter has a reserved name.

        """
        parameters, returns = of_function(function, label=f"{api_name}.{name}", scope=scope)
        return cls(kind="RPC", api_name=api_name, name=name, parameters=parameters, returns=returns)

    def describe(self) -> str:
        """Return the signature in Python's notation: "check_password(username: str, password: str) -> bool"."""
        parts = [str(each) for each in (*self.parameters, self.wildcard) if each is not None]
        returns = "" if self.returns is empty else f" -> {annotation_text(self.returns)}"
        return f"{self.name}({', '.join(parts)}){returns}"

    def __repr__(self) -> str:
        return f"<{self.kind} {self.api_name}.{self.describe()}>"

    @functools.cached_property
    def parameter_schema(self) -> JsonSchema:
        """JSON Schema of the arguments: an object with a property for each parameter."""
        schemas, definitions = self._described
        properties = {each.name: _with_default(schemas[each.name], each) for each in self.parameters}
        return {
            "$schema": DRAFT,
            "title": f"{self._title} parameters",
            "type": "object",
            "properties": properties,
            "required": [each.name for each in self.parameters if each.is_required],
            "additionalProperties": self._rest_schema,
            **({"$defs": definitions} if definitions else {}),
        }

    @functools.cached_property
    def response_schema(self) -> JsonSchema | None:
        """JSON Schema of the result; None for an event, which has none."""
        if self.kind == "Event":
            return None
        head = {"$schema": DRAFT, "title": f"{self._title} response"}
        plain = plain_schema(_annotation(self.returns))
        if plain is not None:
            return {**head, **plain}
        result = self._result
        schema = {**head, **result.properties[_RESULT]}
        return {**schema, "$defs": result.definitions} if result.definitions else schema

    def validate(self, kwargs: Kwargs) -> None:
        """
        Check the arguments of a call or an event.

        Raises:
            InvalidParameters: an argument is missing, or there is no such parameter (of a procedure).
            InvalidEventArguments: the same for an event.
            ValidationError: an argument does not satisfy the schema.
            DeformError: an argument could not be sent.

        """
        if self.passes(kwargs):
            return
        self._check_names(kwargs)
        problem = self._compiled_parameters.problem(kwargs)
        if problem is not None:
            raise self._invalid(problem)

    def validate_received(self, kwargs: Kwargs) -> None:
        """
        Check the arguments of a received event: its publisher may know parameters that we do not.

        Raises the errors of `validate`, except for unknown names.

        """
        if not self.passes(kwargs):
            is_known = self.wildcard is not None or kwargs.keys() <= self._names
            self.validate(kwargs if is_known else {name: kwargs[name] for name in kwargs if name in self._names})

    def validate_response(self, value: Any) -> None:
        """
        Check the result of a call.

        Raises:
            ValidationError: it does not satisfy the schema.
            DeformError: it could not be sent.

        """
        if self.result_passes(value) or self._compiled_response is None:
            return
        problem = self._compiled_response.problem(value)
        if problem is not None:
            raise self._invalid(Problem(path=(_RESULT, *problem.path), got=problem.got, reason=problem.reason))

    def cast(self, kwargs: Kwargs, *, strict: bool = False) -> Kwargs:
        """
        Return the arguments cast to their annotations: a dict to a dataclass, a str to an Enum, a list to a set.

        Unless `strict`, a date is converted to text if a `str` is expected.

        Raises:
            ValidationError: an argument cannot be cast to its annotation.

        """
        if self.passes(kwargs):
            return kwargs
        cast = self._cast(self._arguments, kwargs, strict=strict)
        wildcard = self.wildcard
        if wildcard is None or wildcard.annotation is empty:
            return cast
        rest = {name: value for name, value in kwargs.items() if name not in self._names}
        return {
            **cast,
            **{name: self._cast_rest(wildcard.name, name, value, strict=strict) for name, value in rest.items()},
        }

    def _cast_rest(self, wildcard: str, name: str, value: Any, *, strict: bool) -> Any:
        from .casting import CastFailed

        try:
            return self._arguments.cast({wildcard: value}, strict=strict)[wildcard]
        except CastFailed as error:
            problem = error.problem
            raise self._invalid(replace(problem, path=(name, *problem.path[1:]))) from error

    def cast_result(self, value: Any, *, strict: bool = False) -> Any:
        """
        Return the result cast to the annotation of this side.

        Raises:
            ValidationError: it cannot be cast to the annotation.

        """
        if self.result_passes(value):
            return value
        return self._cast(self._result, {_RESULT: value}, strict=strict)[_RESULT]

    def fill_defaults(self, kwargs: Kwargs) -> Kwargs:
        """Return the arguments of an event with the defaults of missing ones."""
        if not self.optional:
            return kwargs
        absent = [each for each in self.optional if each.name not in kwargs]
        # Copy each default: a handler may change the list that it gets.
        return {**kwargs, **{each.name: copy.deepcopy(each.default) for each in absent}} if absent else kwargs

    def _check_names(self, kwargs: Kwargs) -> None:
        for name in kwargs:
            if name not in self._names and self.wildcard is None:
                near = did_you_mean(str(name), self._names)
                raise ValidationError(f"{self._label} has no parameter '{name}'.{near} {self._declaration}")
        for each in self.parameters:
            if each.is_required and each.name not in kwargs:
                raise ValidationError(
                    f"{self._label} needs the argument '{each.name}', which is missing. {self._declaration}"
                )

    def _cast(self, caster: Caster, values: Kwargs, *, strict: bool) -> Kwargs:
        from .casting import CastFailed

        try:
            return caster.cast(values, strict=strict)
        except CastFailed as error:
            raise self._invalid(error.problem) from error

    def _invalid(self, problem: Problem) -> ValidationError:
        return ValidationError(f"{self._label}: {problem}. {self._declaration}")

    @property
    def _rest_schema(self) -> bool | JsonSchema:
        """The schema of arguments with other names; False if none are allowed, True if any value is."""
        if self.wildcard is None or self.wildcard.annotation is empty:
            return self.wildcard is not None
        return self._described[0][self.wildcard.name]

    @property
    def _label(self) -> str:
        return f"{self.api_name}.{self.name}"

    @property
    def _title(self) -> str:
        return f"{self.kind} {self._label}{'()' if self.kind == 'RPC' else ''}"

    @property
    def _declaration(self) -> str:
        return f"It is declared as {self.describe()}."

    @functools.cached_property
    def _described(self) -> tuple[Mapping[str, JsonSchema], JsonSchema]:
        """The JSON Schemas of the arguments, and the definitions that they refer to."""
        plain = plain_schemas(_annotations(self.parameters, self.wildcard))
        return (self._arguments.properties, self._arguments.definitions) if plain is None else (plain, {})

    @functools.cached_property
    def _arguments(self) -> Caster:
        from .casting import Caster

        return Caster(_annotations(self.parameters, self.wildcard), what=self._label)

    @functools.cached_property
    def _result(self) -> Caster:
        from .casting import Caster

        return Caster({_RESULT: _annotation(self.returns)}, what=self._label)

    @functools.cached_property
    def _compiled_parameters(self) -> CompiledSchema:
        return CompiledSchema(self.parameter_schema, what=f"The schema of {self._label}")

    @functools.cached_property
    def _compiled_response(self) -> CompiledSchema | None:
        schema = self.response_schema
        return None if schema is None else CompiledSchema(schema, what=f"The schema of the result of {self._label}")


def _annotation(annotation: Any) -> Any:
    return Any if annotation is empty else annotation


def _annotations(parameters: Iterable[Parameter], wildcard: Parameter | None) -> dict[str, Any]:
    all_of_them = (*parameters, *((wildcard,) if wildcard is not None else ()))
    return {each.name: _annotation(each.annotation) for each in all_of_them}


def _with_default(schema: JsonSchema, parameter: Parameter) -> JsonSchema:
    if parameter.is_required:
        return schema
    try:
        default = json_form(parameter.default)
        json.dumps(default, allow_nan=False)
    except (DeformError, ValueError):  # a default that JSON cannot express
        return schema
    return {**schema, "default": default}
