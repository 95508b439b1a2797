"""Definitions of many schemas, in one place of a document."""

from __future__ import annotations

from typing import Any

from lightbus.cli.specifications.definitions import PLACE, Definitions, key


def schema_of(name: str, **definitions: Any) -> dict[str, Any]:
    return {"properties": {"it": {"$ref": f"#/$defs/{name}"}}, "$defs": definitions}


def test_equal_definitions_are_shared() -> None:
    """Two members that take a User refer to one User."""
    found = Definitions()
    user = {"type": "object", "properties": {"home": {"$ref": "#/$defs/Home"}}}
    placed = [found.place(schema_of("User", User=user, Home={"type": "string"}), owner) for owner in ("auth", "shop")]
    assert placed == [{"properties": {"it": {"$ref": f"{PLACE}User"}}}] * 2
    assert found.schemas["User"]["properties"] == {"home": {"$ref": f"{PLACE}Home"}}


def test_different_definitions_of_one_name_get_different_names() -> None:
    """Also if only a definition that they refer to differs."""
    found = Definitions()
    user = {"properties": {"home": {"$ref": "#/$defs/Home"}}}
    for owner, home in (("auth", "string"), ("shop", "integer"), ("shop", "boolean")):
        found.place(schema_of("User", User=user, Home={"type": home}), owner)
    homes = {name: found.schemas[name]["properties"]["home"]["$ref"] for name in found.schemas if "User" in name}
    assert homes == {
        "User": f"{PLACE}Home",
        "shop.User": f"{PLACE}shop.Home",
        "shop.User.2": f"{PLACE}shop.Home.2",
    }
    assert found.schemas["shop.Home.2"] == {"type": "boolean"}


def test_values_are_left_alone() -> None:
    """A default, a constant and a property that look like references are none."""
    value = {"$ref": "#/$defs/User"}
    schema = {"default": value, "const": value, "enum": [value], "properties": {"$ref": {"type": "string"}}}
    assert Definitions().place(schema, "auth") == schema


def test_choices_by_a_field() -> None:
    """The mapping of a discriminator refers to the new places."""
    choices = {"discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat", "no": "elsewhere"}}}
    placed = Definitions().place({**choices, "$defs": {"Cat": {"type": "object"}}}, "auth")
    assert placed["discriminator"]["mapping"] == {"cat": f"{PLACE}Cat", "no": "elsewhere"}


def test_references_to_elsewhere() -> None:
    """A reference into the schema itself becomes a description; a URL stays."""
    placed = Definitions().place({"anyOf": [{"$ref": "#"}, {"$ref": "https://example.com/a.json"}]}, "auth")
    described = {"description": "As # of the API's own schema."}
    assert placed == {"anyOf": [described, {"$ref": "https://example.com/a.json"}]}


def test_names_as_keys() -> None:
    """Any name of a definition becomes a valid key of the document."""
    odd = "Page[a/b~c]"
    found = Definitions()
    escaped = odd.replace("~", "~0").replace("/", "~1")
    schema = {"allOf": [{"$ref": f"#/$defs/{escaped}"}], "$defs": {odd: {"type": "object"}}}
    assert found.place(schema, "auth") == {"allOf": [{"$ref": f"{PLACE}{key(odd)}"}]}
    assert found.schemas == {"Page_a_b_c_": {"type": "object"}}
    assert found.place(True, "auth") is True
