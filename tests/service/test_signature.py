"""Signatures: description, JSON Schema, validation, casting."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import InvalidEventArguments, InvalidParameters, ValidationError
from lightbus.service.parameters import Parameter, WildcardParameter
from lightbus.service.signature import DRAFT, Signature
from lightbus.service.validating import CompiledSchema


class Colour(Enum):
    RED = "red"


@dataclass
class User:
    name: str
    colour: Colour = Colour.RED


def check_password(username: str, password: str) -> bool:
    return True


def create(user: User, when: datetime, token: UUID | None = None, raw: bytes = b"", **more: Any) -> list[User]:
    return [user]


def of(function: Callable[..., Any]) -> Signature:
    return Signature.of_function(function, api_name="auth", name=function.__name__)


def event(*parameters: Parameter) -> Signature:
    return Signature(kind="Event", api_name="auth", name="registered", parameters=parameters)


def test_describe_reads_like_the_declaration() -> None:
    """In Python's notation."""
    assert of(check_password).describe() == "check_password(username: str, password: str) -> bool"
    assert of(create).describe() == (
        "create(user: User, when: datetime, token: UUID | None = None, raw: bytes = b'', **more) -> list[User]"
    )
    assert repr(event(Parameter("a"))) == "<Event auth.registered(a)>"


def test_parameter_schema_has_the_form_of_dumpschema() -> None:
    """The schema of the arguments has the form `dumpschema` writes."""
    assert of(check_password).parameter_schema == {
        "$schema": DRAFT,
        "title": "RPC auth.check_password() parameters",
        "type": "object",
        "properties": {"username": {"type": "string"}, "password": {"type": "string"}},
        "required": ["username", "password"],
        "additionalProperties": False,
    }


def test_schema_with_definitions_defaults_and_wildcard() -> None:
    """Classes are in $defs, defaults are included, `**more` allows additional properties."""
    schema = of(create).parameter_schema
    assert schema["required"] == ["user", "when"]
    assert schema["additionalProperties"] is True
    assert set(schema["$defs"]) == {"User", "Colour"}
    assert schema["properties"]["token"]["default"] is None
    assert schema["properties"]["raw"] == {"type": "string", "format": "binary", "default": ""}
    assert "default" not in schema["properties"]["user"]


def test_procedure_has_a_response_schema_and_event_has_none() -> None:
    """A procedure has one, with the definitions it needs; an event has none."""
    assert of(check_password).response_schema == {
        "$schema": DRAFT,
        "title": "RPC auth.check_password() response",
        "type": "boolean",
    }
    listed = of(create).response_schema
    assert listed is not None
    assert listed["items"] == {"$ref": "#/$defs/User"}
    assert set(listed["$defs"]) == {"User", "Colour"}
    assert event().response_schema is None


def test_default_without_a_json_form_is_left_out() -> None:
    """For NaN and objects the schema has no default."""
    made = event(Parameter("a", default=float("nan")), Parameter("b", default=object()), Parameter("c", default=(1,)))
    assert made.parameter_schema["properties"] == {"a": {}, "b": {}, "c": {"default": [1]}}
    assert made.parameter_schema["title"] == "Event auth.registered parameters"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"user": User("a"), "when": datetime(2026, 1, 1), "token": UUID(int=1), "raw": b"\xff"},
        {"user": {"name": "a"}, "when": "2026-01-01T00:00:00Z", "other": 1, "and": [2]},
        {"user": {"name": "a", "colour": "red"}, "when": datetime(2026, 1, 1, tzinfo=UTC), "token": None},
    ],
)
def test_right_arguments_pass(kwargs: dict[str, Any]) -> None:
    """Local objects when they are sent, and plain values when they are received."""
    of(create).validate(kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"username": 5, "password": "x"}, 'username is 5, but it is not of type "string"'),
        ({"username": "x", "password": None}, 'password is None, but it is not of type "string"'),
        ({"username": True, "password": "x"}, 'username is True, but it is not of type "string"'),
    ],
)
def test_a_wrong_type_is_refused(kwargs: dict[str, Any], message: str) -> None:
    """The error names the procedure, the argument, the value, what was expected, and the declaration."""
    with pytest.raises(ValidationError) as caught:
        of(check_password).validate(kwargs)
    assert str(caught.value) == (
        f"auth.check_password: {message}. It is declared as check_password(username: str, password: str) -> bool."
    )


def test_nested_values_are_validated() -> None:
    """The path leads to the value inside the argument."""
    with pytest.raises(ValidationError, match=r"auth\.create: user\.name is 5, but"):
        of(create).validate({"user": {"name": 5}, "when": datetime(2026, 1, 1)})


def test_unknown_and_missing_names() -> None:
    """A misspelt name gives the similar one; a missing one is named."""
    with pytest.raises(
        InvalidParameters, match=r"no parameter 'usrname'\. Did you mean 'username'\? It is declared as"
    ):
        of(check_password).validate({"usrname": "x", "password": "y"})
    with pytest.raises(InvalidParameters, match="needs the argument 'password'"):
        of(check_password).validate({"username": "x"})
    with pytest.raises(InvalidParameters, match="no parameter '5'"):
        of(check_password).validate({"username": "x", "password": "y", 5: 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidEventArguments, match=r"auth\.registered has no parameter 'b'"):
        event(Parameter("a")).validate({"a": 1, "b": 2})


def test_received_event_may_have_more_arguments() -> None:
    """Additional arguments of its publisher are ignored; the rest must match the declaration here."""
    made = event(Parameter("a", int))
    made.validate_received({"a": 1, "b": object()})
    with pytest.raises(InvalidEventArguments, match="needs the argument 'a'"):
        made.validate_received({"b": 1})
    with pytest.raises(ValidationError, match="a is '1'"):
        made.validate_received({"a": "1", "b": 1})
    with pytest.raises(ValidationError, match="b is '1'"):
        event(Parameter("a", int), WildcardParameter("rest", int)).validate_received({"a": 1, "b": "1"})


def test_a_wildcard_takes_other_names() -> None:
    """Further arguments pass beside the declared ones, which are still checked and required."""
    made = event(Parameter("a", int), WildcardParameter())
    made.validate({"a": 1, "b": object})
    with pytest.raises(InvalidEventArguments, match="needs the argument 'a'"):
        made.validate({"b": 1})
    with pytest.raises(ValidationError, match="a is '1'"):
        made.validate({"a": "1"})


def test_responses_are_validated() -> None:
    """The result is checked against its annotation."""
    of(check_password).validate_response(True)
    of(create).validate_response([User("a"), {"name": "b"}])
    event().validate_response(object())
    with pytest.raises(ValidationError, match=r"auth\.check_password: the result is 1, but it is not of type"):
        of(check_password).validate_response(1)
    with pytest.raises(ValidationError, match=r"the result\[0\]\.name is 5"):
        of(create).validate_response([{"name": 5}])


def test_arguments_are_cast_to_annotations() -> None:
    """The handler gets the declared types."""
    cast = of(create).cast({"user": {"name": "a"}, "when": "2026-01-01T00:00:00Z", "more": (1,)})
    assert cast == {"user": User("a"), "when": datetime(2026, 1, 1, tzinfo=UTC), "more": (1,)}


def test_results_are_cast_to_annotations() -> None:
    """A caller with the annotation gets its type."""
    assert of(create).cast_result([{"name": "a", "colour": "red"}]) == [User("a")]
    assert of(check_password).cast_result(True) is True


def test_a_failing_cast_is_a_validation_error() -> None:
    """Text that passed as a string may not be a datetime."""
    with pytest.raises(ValidationError, match=r"auth\.create: when is 'soon', but .*It is declared as create\("):
        of(create).cast({"user": User("a"), "when": "soon"})
    with pytest.raises(ValidationError, match=r"the result\[0\]\.name is \{\}"):
        of(create).cast_result([{}])


def test_matching_arguments_are_returned_themselves() -> None:
    """If nothing must be cast, nothing is copied."""
    kwargs = {"username": "a", "password": "b"}
    assert of(check_password).cast(kwargs) is kwargs
    assert event(Parameter("a")).fill_defaults({"a": 1}) == {"a": 1}


def test_defaults_are_copied_for_each_event() -> None:
    """Missing arguments of an event get their defaults, which a handler may change."""
    made = event(Parameter("a"), Parameter("b", default=3), Parameter("c", list, default=[]))
    first = made.fill_defaults({"a": 1, "b": 2})
    assert first == {"a": 1, "b": 2, "c": []}
    first["c"].append(1)
    assert made.fill_defaults({"a": 1})["c"] == []


def test_matching_calls_need_neither_pydantic_nor_jsonschema() -> None:
    """A process whose calls have builtin arguments never imports the modules for casting and validation."""
    program = """
        import sys
        from lightbus.service.signature import Signature
        def f(a: str, b: int | None, c=None) -> bool: ...
        made = Signature.of_function(f, api_name="x", name="f")
        made.validate({"a": "", "b": 1}), made.cast({"a": "", "b": None, "c": {}})
        made.validate_response(True), made.cast_result(False)
        print([name for name in ("lightbus.service.casting", "jsonschema_rs") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)


@given(st.dictionaries(st.sampled_from("abcx"), _scalars | st.lists(_scalars, max_size=2)))
def test_fast_path_and_schema_agree(kwargs: dict[str, Any]) -> None:
    """Values that pass by exact types satisfy the JSON Schema, and values that the schema refuses never pass."""
    schema = CompiledSchema(_SHORT.parameter_schema, what="schema")
    try:
        _SHORT.validate(kwargs)
    except InvalidParameters:
        assert schema.problem(kwargs) is not None
    else:
        assert schema.problem(kwargs) is None


def _short(a: str, b: int | None = None, c: float | list[Any] | None = None) -> None: ...


_SHORT = of(_short)
