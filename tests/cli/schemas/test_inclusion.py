"""A schema includes another one only if each value of the latter satisfies the former."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.cli.schemas.inclusion import includes

INT, STR, NUMBER, NULL = ({"type": kind} for kind in ("integer", "string", "number", "null"))
EITHER = {"anyOf": [INT, NULL]}


def an_object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required]}


def tree(*extra: dict[str, Any]) -> dict[str, Any]:
    node = an_object(("name",), name=STR, children={"type": "array", "items": {"$ref": "#/$defs/Node"}})
    return {"$ref": "#/$defs/Node", "$defs": {"Node": {**node, **dict(*extra)}}}


WIDER = [
    ({}, INT),
    (True, INT),
    (NUMBER, INT),
    (EITHER, INT),
    (EITHER, NULL),
    ({"type": ["integer", "null"]}, EITHER),
    ({"anyOf": [STR, INT, NULL]}, EITHER),
    (STR, {"type": "string", "format": "date"}),
    (STR, {"enum": ["a", "b"]}),
    ({"enum": ["a", "b", 1]}, {"enum": ["a"]}),
    ({"enum": [True, False]}, {"type": "boolean"}),
    ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 3}),
    ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 3}),
    ({"type": "array", "items": NUMBER}, {"type": "array", "items": INT}),
    ({"type": "array", "items": NUMBER}, {"type": "array", "prefixItems": [INT, INT], "maxItems": 2}),
    (an_object(("a",), a=NUMBER), an_object(("a", "b"), a=INT, b=STR)),
    (an_object(a=INT, new=STR), an_object(a=INT)),
    ({"type": "object", "additionalProperties": NUMBER}, {"type": "object", "additionalProperties": INT}),
    (tree(), tree({"description": "A tree."})),
    (INT, {"title": "Number", "type": "integer", "default": 3}),
]
NOT_WIDER = [
    (INT, {}),
    (INT, NUMBER),
    (INT, EITHER),
    (False, INT),
    ({"enum": ["a"]}, {"enum": ["a", "b"]}),
    ({"enum": ["a"]}, STR),
    ({"type": "integer", "minimum": 3}, {"type": "integer", "minimum": 1}),
    ({"type": "integer", "minimum": 3}, INT),
    ({"type": "string", "format": "date"}, STR),
    ({"type": "array", "items": INT}, {"type": "array"}),
    ({"type": "array", "prefixItems": [INT, STR]}, {"type": "array", "prefixItems": [STR, STR]}),
    (an_object(("a", "b"), a=INT, b=INT), an_object(("a",), a=INT, b=INT)),
    (an_object(a=INT), an_object(a=STR)),
    (an_object(a=INT) | {"additionalProperties": False}, an_object(a=INT, b=INT)),
    ({"anyOf": [an_object(a=INT), an_object(a=NULL)]}, an_object(a=STR)),
    (tree({"required": ["name", "children"]}), tree()),
    ({"not": INT}, STR),
]


@pytest.mark.parametrize(("wide", "narrow"), WIDER)
def test_wider_schema_accepts_all_of_the_narrower(wide: Any, narrow: Any) -> None:
    """What satisfies the second satisfies the first."""
    assert includes(wide, narrow)


@pytest.mark.parametrize(("wide", "narrow"), NOT_WIDER)
def test_schema_is_not_wider_where_a_value_fits_the_other_only(wide: Any, narrow: Any) -> None:
    """Some value satisfies the second only, or it cannot be seen that none does."""
    assert not includes(wide, narrow)


@pytest.mark.parametrize("schema", [schema for pair in WIDER + NOT_WIDER for schema in pair])
def test_each_includes_itself(schema: Any) -> None:
    """Any schema includes itself."""
    assert includes(schema, schema)
