"""Definitions of many schemas, in one place of a document."""

from __future__ import annotations

from typing import Any

from lightbus.cli.specifications.definitions import PLACE, Definitions, key


def schema_of(name: str, **definitions: Any) -> dict[str, Any]:
    return {"properties": {"it": {"$ref": f"#/$defs/{name}"}}, "$defs": definitions}


def test_what_is_the_same_is_there_once() -> None:
    """Two members that take a User refer to one User."""
    found = Definitions()
    user = {"type": "object", "properties": {"home": {"$ref": "#/$defs/Home"}}}
    placed = [found.place(schema_of("User", User=user, Home={"type": "string"}), owner) for owner in ("auth", "shop")]
    assert placed == [{"properties": {"it": {"$ref": f"{PLACE}User"}}}] * 2
    assert found.schemas["User"]["properties"] == {"home": {"$ref": f"{PLACE}Home"}}


def test_what_is_called_alike_has_names_of_its_own() -> None:
    """Also where only something that it refers to is another thing."""
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
    """What tells choices apart refers to where they are."""
    choices = {"discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat", "no": "elsewhere"}}}
    placed = Definitions().place({**choices, "$defs": {"Cat": {"type": "object"}}}, "auth")
    assert placed["discriminator"]["mapping"] == {"cat": f"{PLACE}Cat", "no": "elsewhere"}


def test_references_to_elsewhere() -> None:
    """One into the schema itself is said in words; one that is an address stays."""
    placed = Definitions().place({"anyOf": [{"$ref": "#"}, {"$ref": "https://example.com/a.json"}]}, "auth")
    described = {"description": "As # of the API's own schema."}
    assert placed == {"anyOf": [described, {"$ref": "https://example.com/a.json"}]}


def test_names_as_keys() -> None:
    """Whatever a definition is called, its name in the document is one that is allowed there, and is found."""
    odd = "Page[a/b~c]"
    found = Definitions()
    escaped = odd.replace("~", "~0").replace("/", "~1")
    schema = {"allOf": [{"$ref": f"#/$defs/{escaped}"}], "$defs": {odd: {"type": "object"}}}
    assert found.place(schema, "auth") == {"allOf": [{"$ref": f"{PLACE}{key(odd)}"}]}
    assert found.schemas == {"Page_a_b_c_": {"type": "object"}}
    assert found.place(True, "auth") is True
