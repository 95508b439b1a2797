"""JSON Schemas of many members in one document: the definitions of all schemas are collected once, under one name each.

References are rewritten, since they are relative to the whole document. Values (`default`, `enum`, `const`,
`examples`) are not changed, even if they look like schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...typing import JsonSchema

__all__ = ["PLACE", "Definitions", "key"]

PLACE = "#/components/schemas/"
"""The place of definitions, both in AsyncAPI and OpenAPI."""

_OWN = "#/$defs/"
_ONE = {
    "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
_SEVERAL = {"allOf", "anyOf", "oneOf", "prefixItems"}
_BY_NAME = {"dependentSchemas", "patternProperties", "properties"}


class Definitions:
    """
    The definitions of one document.

    Attributes:
        schemas: the definitions, by their names in the document.

    Args:
        convert: converts one schema, whose parts were converted already, to the document's format.

    """

    def __init__(self, convert: Callable[[JsonSchema], JsonSchema] = dict) -> None:
        self.schemas: dict[str, Any] = {}
        self._convert = convert
        self._names: dict[str, str] = {}
        """Definition with all definitions it refers to, as text -> its name."""

    def place(self, schema: Any, owner: str) -> Any:
        """
        Add the definitions of a schema to the document, and return the schema; equal definitions are added once.

        Args:
            schema: with its own `$defs`.
            owner: put before the name of a definition if the name is taken.

        """
        if not isinstance(schema, dict):
            return schema
        definitions = schema.get("$defs", {})
        names = {name: self._name(name, owner, definitions) for name in definitions}
        for name, definition in definitions.items():
            self.schemas.setdefault(names[name], self._changed(definition, names))
        return self._changed({word: each for word, each in schema.items() if word not in ("$defs", "$schema")}, names)

    def _name(self, name: str, owner: str, definitions: Mapping[str, Any]) -> str:
        reached = {each: definitions[each] for each in sorted(_reached(name, definitions))}
        content = f"{name} {json.dumps(reached, sort_keys=True)}"
        if content not in self._names:
            choices = _choices(key(name), key(f"{owner}.{name}"))
            self._names[content] = next(each for each in choices if each not in {*self._names.values()})
        return self._names[content]

    def _changed(self, schema: Any, names: Mapping[str, str]) -> Any:
        if not isinstance(schema, dict):
            return schema
        changed = {word: self._of_word(word, each, names) for word, each in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            if (name := _referenced_definition(reference)) in names:
                changed["$ref"] = f"{PLACE}{names[name]}"
            else:  # a reference into the original schema, which is not in this document
                del changed["$ref"]
                changed.setdefault("description", f"As {reference} of the API's own schema.")
        return self._convert(changed)

    def _of_word(self, word: str, value: Any, names: Mapping[str, str]) -> Any:
        if word in _ONE:
            return self._changed(value, names)
        if word in _SEVERAL and isinstance(value, list):
            return [self._changed(each, names) for each in value]
        if word in _BY_NAME and isinstance(value, dict):
            return {name: self._changed(each, names) for name, each in value.items()}
        if word == "discriminator" and isinstance(value, dict) and isinstance(value.get("mapping"), dict):
            mapping = {
                each: f"{PLACE}{names[_referenced_definition(target)]}"
                if _referenced_definition(target) in names
                else target
                for each, target in value["mapping"].items()
            }
            return {**value, "mapping": mapping}
        return value


def key(name: str) -> str:
    """Return a name as a valid key of a document's components: letters, digits, and `.`, `-`, `_`."""
    return re.sub(r"[^a-zA-Z0-9._-]", "_", name)


def _choices(*names: str) -> Iterator[str]:
    yield from names
    number = 2
    while True:
        yield f"{names[-1]}.{number}"
        number += 1


def _referenced_definition(reference: Any) -> str:
    """Return the name of the definition that a reference points to; empty for any other reference."""
    if not isinstance(reference, str) or not reference.startswith(_OWN):
        return ""
    return reference.removeprefix(_OWN).replace("~1", "/").replace("~0", "~")


def _reached(name: str, definitions: Mapping[str, Any]) -> set[str]:
    """Return the names of all definitions that one refers to, directly or not, and its own."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in definitions and each not in found:
            found.add(each)
            text = json.dumps(definitions[each])
            waiting.extend(other for other in definitions if json.dumps(f"{_OWN}{_escaped(other)}") in text)
    return found


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
