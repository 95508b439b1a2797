"""The named types in the signatures of an API's members, from their schemas: for `lightbus describe`.

A signature says `address: Address`; the fields of Address are in the definitions of the schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..schemas.annotations import as_text, quoted

__all__ = ["NamedType", "TypeField", "named_types"]

_OWN = "#/$defs/"
_VALUES = {"default", "examples", "enum", "const"}
"""Keywords whose content is a value, never a schema."""

_BY_NAME = {"properties", "patternProperties", "dependentSchemas", "$defs"}
"""Keywords whose content maps names to schemas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeField:
    """
    A field of a type.

    Attributes:
        name: the name of the field.
        type: its type as text: `int | None`.
        required: whether it must be given.
        default: its default, if the schema has one.
        doc: its description.

    """

    name: str
    type: str
    required: bool
    default: Any = None
    doc: str = ""

    def __str__(self) -> str:
        if self.required:
            return f"{self.name}: {self.type}"
        is_said = self.default is not None or "None" in self.type.split(" | ")
        return f"{self.name}: {self.type} = {quoted(self.default) if is_said else '...'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedType:
    """
    A named type.

    Attributes:
        name: its name.
        doc: its description.
        fields: the fields of an object; empty for any other type.
        values: the type as text if it has no fields: `Literal["red", "blue"]`; else empty.

    """

    name: str
    doc: str
    fields: tuple[TypeField, ...]
    values: str

    def lines(self) -> Iterator[str]:
        """Yield its fields, or its values, as Python code."""
        for field in self.fields:
            yield str(field)
        if self.values:
            yield self.values

    def as_record(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        names = TypeField.__slots__
        fields = [{name: getattr(field, name) for name in names} for field in self.fields]
        return {"name": self.name, "doc": self.doc, "fields": fields, "values": self.values}


def named_types(schemas: Iterable[Any], depth: int) -> tuple[list[NamedType], list[str]]:
    """
    Return the types that schemas refer to, each once, and the names of those beyond `depth`.

    Args:
        schemas: the schemas of arguments and results, each with its own `$defs`.
        depth: 1 for the types that the schemas themselves refer to, 2 for the types that those refer to, and so on.

    """
    found: dict[str, NamedType] = {}
    deeper: dict[str, None] = {}
    for schema in schemas:
        definitions = schema.get("$defs") if isinstance(schema, dict) else None
        if not isinstance(definitions, dict):
            continue
        met = _names_in({word: each for word, each in schema.items() if word != "$defs"})
        seen: set[str] = set()
        level = 0
        while wanted := [name for name in dict.fromkeys(met) if name in definitions and name not in seen]:
            seen.update(wanted)
            level += 1
            if level > depth:
                deeper.update(dict.fromkeys(wanted))
                break
            for name in wanted:
                found.setdefault(name, _named_type(name, definitions[name], definitions))
            met = (each for name in wanted for each in _names_in(definitions[name]))
    return [*found.values()], [name for name in deeper if name not in found]


def _names_in(schema: Any) -> Iterator[str]:
    """Yield the names of the definitions that a schema refers to, in their order in the schema."""
    waiting = [(schema, False)]
    while waiting:
        part, is_by_name = waiting.pop()
        if isinstance(part, list):
            waiting.extend((each, False) for each in reversed(part))
        elif isinstance(part, dict):
            reference = None if is_by_name else part.get("$ref")
            if isinstance(reference, str) and reference.startswith(_OWN):
                yield reference.removeprefix(_OWN).replace("~1", "/").replace("~0", "~")
            words = [word for word in part if is_by_name or word not in _VALUES]
            waiting.extend((part[word], not is_by_name and word in _BY_NAME) for word in reversed(words))


def _named_type(name: str, schema: Any, definitions: Mapping[str, Any]) -> NamedType:
    known = schema if isinstance(schema, dict) else {}
    properties = known.get("properties")
    doc = _doc(known)
    if not isinstance(properties, dict) or not properties:
        return NamedType(name=name, doc=doc, fields=(), values=_type(schema, definitions))
    required = known.get("required")
    needed = required if isinstance(required, list) else []
    fields = (
        TypeField(
            name=str(each),
            type=_type(part, definitions),
            required=each in needed,
            default=part.get("default") if isinstance(part, dict) else None,
            doc=_doc(part),
        )
        for each, part in properties.items()
    )
    return NamedType(name=name, doc=doc, fields=tuple(fields), values="")


def _type(schema: Any, definitions: Mapping[str, Any]) -> str:
    return as_text({**schema, "$defs": definitions} if isinstance(schema, dict) else schema)


def _doc(schema: Any) -> str:
    doc = schema.get("description", "") if isinstance(schema, dict) else ""
    return doc.strip() if isinstance(doc, str) else ""
