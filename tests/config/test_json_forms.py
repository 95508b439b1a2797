"""Sections in JSON Schema: each setting with its form, its default and its words."""

from __future__ import annotations

from lightbus.config.fields import PORT, choice
from lightbus.config.json_forms import json_schema_of
from lightbus.config.sections import Settings, optional, section, sections, setting


class Door(Settings):
    """
    A door.

    It opens.
    """

    port: int = setting(PORT, 0, "Where it is.")
    state: str = setting(optional(choice("open", "shut")), "open", key="is")


class House(Settings):
    """A house."""

    takes_more = True

    front: Door = setting(section(Door), Door.from_defaults(), "The way in.")
    others: dict[str, Door] = setting(sections(Door), {})


def test_json_schema_of_a_section() -> None:
    """Each section is defined once, however often it is used; keys have their written names."""
    default = {"port": 0, "is": "open"}
    assert json_schema_of(House) == {
        "$defs": {
            "Door": {
                "title": "Door",
                "description": "A door.\n\nIt opens.",
                "type": "object",
                "properties": {
                    "port": {
                        "title": "Port", "type": "integer", "minimum": 0, "maximum": 65535, "default": 0,
                        "description": "Where it is.",
                    },
                    "is": {
                        "title": "Is",
                        "anyOf": [{"type": "string", "enum": ["open", "shut"]}, {"type": "null"}],
                        "default": "open",
                    },
                },
                "additionalProperties": False,
            }
        },
        "title": "House",
        "description": "A house.",
        "type": "object",
        "properties": {
            "front": {"$ref": "#/$defs/Door", "default": default, "description": "The way in."},
            "others": {
                "title": "Others", "type": "object", "additionalProperties": {"$ref": "#/$defs/Door"}, "default": {},
            },
        },
        "additionalProperties": True,
    }  # fmt: skip
