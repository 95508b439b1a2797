"""JSON Schema validation."""

from __future__ import annotations

import math
import socket
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import DeformError, InvalidSchema, ValidationError
from lightbus.service.validating import CompiledSchema
from lightbus.wire.codec import MAX_INT_BYTES

INTEGERS = {"type": "object", "properties": {"lines": {"type": "array", "items": {"type": "integer"}}}}


def compiled(schema: Any) -> CompiledSchema:
    return CompiledSchema(schema, what="The schema of auth.f")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("integer", [1, -(2**70), 1.0], ["1", True, 1.5, None, math.nan]),
        ("number", [1, 1.5, math.nan, math.inf, -math.inf], ["1", True]),
        ("string", ["", b"\xff", datetime(2026, 1, 1)], [1, None, ["a"]]),
        ("boolean", [True], [0, 1, "true"]),
        ("null", [None], [0, ""]),
        ("array", [[], (1,), {2}], [{}, "a"]),
        ("object", [{}, {1: 2}], [[]]),
    ],
)
def test_types_of_json_schema(kind: str, right: list[Any], wrong: list[Any]) -> None:
    """Values of the bus satisfy the matching JSON types, and no others."""
    schema = compiled({"type": kind})
    assert [value for value in right if schema.problem(value) is not None] == []
    assert [value for value in wrong if schema.problem(value) is None] == []


def test_a_problem_says_where_what_and_why() -> None:
    """The path, the value and the reason are facts, and one readable sentence."""
    problem = compiled(INTEGERS).problem({"lines": [1, "two"]})
    assert problem is not None
    assert (list(problem.path), problem.got) == (["lines", 1], "two")
    assert str(problem) == "lines[1] is 'two', but it is not of type \"integer\""


def test_validate_raises_what_problem_returns() -> None:
    """The error names the schema and the problem."""
    with pytest.raises(ValidationError, match=r"The schema of auth\.f is not satisfied: it is 1, but"):
        compiled(INTEGERS).validate(1)


def test_values_that_cannot_be_sent_are_a_deform_error() -> None:
    """An object without plain form is refused before any schema is checked."""
    with pytest.raises(DeformError):
        compiled({}).validate(object())


def test_the_largest_integer_is_compared_as_a_number() -> None:
    """Integers of the largest size are validated like small ones."""
    largest = 2 ** (8 * MAX_INT_BYTES - 1) - 1
    schema = compiled({"type": "integer", "minimum": 3})
    assert schema.problem(largest) is None
    assert str(schema.problem(-largest)).endswith("but it is less than the minimum of 3")


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"pattern": "("}, {"$ref": "#/nowhere"}, [1], "x", 5, None])
def test_invalid_schema_is_refused(schema: Any) -> None:
    """The error names the owner of the schema."""
    with pytest.raises(InvalidSchema, match=r"The schema of auth\.f is not a valid JSON Schema"):
        compiled(schema)


def test_references_to_elsewhere_are_never_followed() -> None:
    """A schema cannot make us open a connection, not even to a server that listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        uri = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(InvalidSchema, match="not followed"):
            compiled({"$ref": uri})
        with pytest.raises(BlockingIOError):
            server.accept()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_json_is_a_schema_or_is_refused(schema: Any) -> None:
    """Any schema from a stranger compiles or is an InvalidSchema."""
    try:
        compiled(schema).problem({"a": 1})
    except InvalidSchema as error:
        assert "The schema of auth.f" in str(error)
