"""Decide whether each value that satisfies one JSON Schema satisfies another one, too: a compatible change.

If that cannot be decided, the answer is no. Properties that an object's schema does not name are assumed to be absent.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from ...service.validating import CompiledSchema

__all__ = ["includes"]

_SAYS_NOTHING = {"$schema", "$defs", "title", "description", "default", "examples", "deprecated"}
_LOWER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_UPPER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_CHOICES = ("anyOf", "oneOf")


def includes(wide: Any, narrow: Any) -> bool:
    """Return whether each value that satisfies `narrow` satisfies `wide`. Each has its own `$defs`."""
    return _Inclusion(_definitions(wide), _definitions(narrow)).holds(wide, narrow)


def _definitions(schema: Any) -> dict[str, Any]:
    found = schema.get("$defs") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


class _Inclusion:
    """One comparison. A recursive pair of schemas is assumed to hold while it is being compared."""

    def __init__(self, wide_definitions: dict[str, Any], narrow_definitions: dict[str, Any]) -> None:
        self._wide, self._narrow = wide_definitions, narrow_definitions
        self._assumed: set[tuple[int, int]] = set()
        self._compared_schemas: list[Any] = []
        """The compared schemas, referenced so that their ids are not reused."""

    def holds(self, wide: Any, narrow: Any) -> bool:
        wide, narrow = _resolved(wide, self._wide), _resolved(narrow, self._narrow)
        if (id(wide), id(narrow)) in self._assumed:
            return True
        before = {*self._assumed}
        self._assumed.add((id(wide), id(narrow)))
        self._compared_schemas += [wide, narrow]
        if self._compared(_constraints(wide), _constraints(narrow)):
            return True
        self._assumed = before  # results that depended on this assumption are dropped
        return False

    def _compared(self, wide: Any, narrow: Any) -> bool:
        if wide in (True, {}) or narrow is False:
            return True
        if wide is False or narrow in (True, {}):
            return False
        alternatives = _alternatives(narrow)
        if alternatives is not None:
            return all(self.holds(wide, each) for each in alternatives)
        values = _values(narrow)
        if values is not None:
            return all(self._satisfies(value, wide) for value in values)
        alternatives = _alternatives(wide)
        if alternatives is not None:
            return any(self.holds(each, narrow) for each in alternatives)
        return all(self._keyword_holds(key, wide, narrow) for key in wide)

    def _satisfies(self, value: Any, schema: Any) -> bool:
        whole = {**schema, "$defs": self._wide} if self._wide else schema
        return CompiledSchema(whole, what="The schema").problem(value) is None

    def _keyword_holds(self, key: str, wide: Any, narrow: Any) -> bool:
        of_its_own: dict[str, Callable[[Any, Any], bool]] = {
            "type": _type_holds,
            "properties": self._properties_hold,
            "additionalProperties": self._properties_hold,
            "required": lambda wide, narrow: {*wide["required"]} <= {*narrow.get("required", ())},
            "items": self._items_hold,
            "prefixItems": self._items_hold,
        }
        if key in of_its_own:
            return of_its_own[key](wide, narrow)
        if key in _LOWER:
            return key in narrow and bool(narrow[key] >= wide[key])
        if key in _UPPER:
            return key in narrow and bool(narrow[key] <= wide[key])
        return bool(narrow.get(key) == wide[key])

    def _properties_hold(self, wide: Any, narrow: Any) -> bool:
        of_wide, of_narrow = wide.get("properties", {}), narrow.get("properties", {})
        rest_of_wide, rest_of_narrow = wide.get("additionalProperties", True), narrow.get("additionalProperties", False)
        return self.holds(rest_of_wide, rest_of_narrow) and all(
            self.holds(of_wide.get(name, rest_of_wide), of_narrow.get(name, rest_of_narrow))
            for name in {**of_wide, **of_narrow}
        )

    def _items_hold(self, wide: Any, narrow: Any) -> bool:
        rest_of_wide, rest_of_narrow = wide.get("items", True), narrow.get("items", True)
        longest = narrow.get("maxItems")
        pairs = zip_longest(wide.get("prefixItems", ()), narrow.get("prefixItems", ()))
        compared = [
            self.holds(rest_of_wide if of_wide is None else of_wide, rest_of_narrow if of_narrow is None else of_narrow)
            for of_wide, of_narrow in pairs
        ]
        has_rest = longest is None or longest > len(compared)
        return all(compared) and (not has_rest or self.holds(rest_of_wide, rest_of_narrow))


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """Follow a `$ref`, which is alone in schemas of Lightbus; one without a target is returned unchanged."""
    for _ in range(len(definitions) + 1):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
            break
        schema = definitions.get(reference.rpartition("/")[2], schema)
    return schema


def _constraints(schema: Any) -> Any:
    return (
        {key: value for key, value in schema.items() if key not in _SAYS_NOTHING}
        if isinstance(schema, dict)
        else schema
    )


def _alternatives(schema: Any) -> list[Any] | None:
    """Return the alternatives of a schema of which a value must satisfy one; None for any other schema."""
    for key in _CHOICES:
        if schema.keys() == {key}:
            found: list[Any] = schema[key]
            return found
    kinds = schema.get("type")
    if isinstance(kinds, list) and "enum" not in schema:
        return [{**schema, "type": kind} for kind in kinds]
    return None


def _values(schema: Any) -> list[Any] | None:
    """Return all values that satisfy a schema if it lists them, else None."""
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return [*schema["enum"]]
    of_kind: dict[Any, list[Any]] = {"boolean": [True, False], "null": [None]}
    kind = schema.get("type")
    return of_kind.get(kind) if isinstance(kind, str) else None


def _type_holds(wide: Any, narrow: Any) -> bool:
    kinds = wide["type"] if isinstance(wide["type"], list) else [wide["type"]]
    return narrow.get("type") in kinds or (narrow.get("type") == "integer" and "number" in kinds)
