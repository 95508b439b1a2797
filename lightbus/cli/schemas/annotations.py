"""Python annotations from JSON Schemas, in three forms: for given arguments, for results, for listeners' parameters.

Results and the arguments of events arrive in their wire form: a dict for a dataclass, a list for a set. A caller may
pass the dict or an object with the same attributes; a listener may annotate structured values with its own classes.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from ...service.format_names import COMPLEX, DECIMAL

__all__ = ["Annotations", "Form", "as_text", "docstring", "in_order", "is_plain_name", "quoted"]

_PLAIN = {"integer": "int", "number": "float", "boolean": "bool", "null": "None", "string": "str"}
_OF_FORMAT = {
    "date-time": "_dt.datetime", "date": "_dt.date", "time": "_dt.time", "duration": "_dt.timedelta", "uuid": "UUID",
    "uuid4": "UUID", "binary": "bytes", DECIMAL: "Decimal", COMPLEX: "complex",
}  # fmt: skip
_DECIMAL = [{"type": "number"}, {"format": DECIMAL, "type": "string"}]
_IMPORTS = {
    **dict.fromkeys(("Any", "Literal", "NotRequired", "Protocol", "TypeAlias", "TypedDict", "cast"), "typing"),
    **dict.fromkeys(("Mapping", "Sequence", "Set"), "collections.abc"),
    "UUID": "uuid",
    "Decimal": "decimal",
    "Enum": "enum",
}
"""Name in an annotation -> the module to import it from."""

_PIECES = re.compile(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[|\]| \| )")
"""Splits the text of a union; a quoted value is one piece."""

_DEEPEST = 20


class Form(Enum):
    """What an annotation is for: an argument given by a caller, a result, or a listener's parameter."""

    GIVEN = "given"
    RETURNED = "returned"
    HEARD = "heard"


class Annotations:
    """
    Annotations of one module, with the class definitions and imports that they need.

    Args:
        taken: names that the module uses already.

    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.imports: dict[str, set[str]] = {}
        """Module -> the names to import from it."""
        self._taken = {*taken, *_IMPORTS, *_PLAIN.values(), "bytes", "complex", "list", "dict", "tuple", "object"}
        self._names: dict[str, str] = {}
        """Definition, as text -> its name in this module."""
        self._made: dict[str, list[str]] = {}
        """Name -> the lines of its definition, in the order of first use."""
        self._aliases: set[str] = set()
        self._like: set[str] = set()
        """Names that also have a protocol for objects (`...Like`)."""

    def of(self, schema: Any, form: Form, *, prefix: str, definitions: Mapping[str, Any] | None = None) -> str:
        """
        Return the annotation for values of a schema.

        Args:
            schema: with its own `$defs`, unless `definitions` are given.
            form: what the annotation is for.
            prefix: put before the name of a class if the name is taken.
            definitions: the targets of `$ref` in the schema.

        """
        own = schema.get("$defs", {}) if isinstance(schema, dict) else {}
        return _FormAnnotations(self, form, prefix, own if definitions is None else definitions).text(schema)

    def needs(self, *names: str) -> None:
        """Record that the module uses these names of the standard library."""
        for name in names:
            self.imports.setdefault(_IMPORTS[name], set()).add(name)

    def header(self) -> Iterator[str]:
        """Yield the import lines."""
        yield "import datetime as _dt"  # an alias, since a field may be called `date`, and be one
        for module, names in sorted(self.imports.items()):
            yield f"from {module} import {', '.join(sorted(names))}"

    def definitions(self) -> Iterator[str]:
        """Yield the lines of all definitions so far."""
        for lines in self._made.values():
            yield from lines

    def define(self, title: str, schema: Any, form: Form, prefix: str, definitions: Mapping[str, Any]) -> str:
        """Return the name of a definition, which is made at its first use."""
        key = f"{title} {_spelled_out(schema, definitions)}"
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = self._free(title, prefix)
            self._made[name] = []
            if "enum" in schema:
                self._aliases.add(name)
                self.needs("TypeAlias")
                values = _FormAnnotations(self, Form.RETURNED, prefix, definitions).text(schema)
                self._made[name] = ["", "", f"{name}: TypeAlias = {values}"]
            else:
                self._define_object(name, schema, prefix, definitions)
        if form is Form.GIVEN and name in self._aliases:
            self.needs("Enum")
            return f"{name} | Enum"
        return f"{name} | {name}Like" if form is Form.GIVEN and name in self._like else name

    def _define_object(self, name: str, schema: Any, prefix: str, definitions: Mapping[str, Any]) -> None:
        self.needs("TypedDict", "Protocol")
        properties, required = in_order(schema)
        self._like.add(name)
        returned, given = (_FormAnnotations(self, form, prefix, definitions) for form in (Form.RETURNED, Form.GIVEN))
        doc = docstring(schema.get("description", ""))
        lines = ["", "", f"class {name}(TypedDict):", *doc, *([""] if doc else [])]
        for each, part in properties.items():
            text = returned.text(part)
            if each not in required:
                self.needs("NotRequired")
                text = f"NotRequired[{text}]"
            lines.append(f"    {each}: {text}")
        like = [
            "",
            "",
            f"class {name}Like(Protocol):",
            f'    """An object with what {name} has: a dataclass, a model."""',
        ]
        for each in properties:
            if each in required or not required:
                like += ["", "    @property", f"    def {each}(self) -> {given.text(properties[each])}: ..."]
        self._made[name] = lines + like

    def _free(self, title: str, prefix: str) -> str:
        name = next(
            each
            for each in (title, f"{prefix}{title}", *(f"{prefix}{title}{n}" for n in range(2, 10_000)))
            if not {each, f"{each}Like"} & self._taken
        )
        self._taken |= {name, f"{name}Like"}
        return name


class _FormAnnotations:
    """Annotations in one form, of schemas that share their definitions."""

    def __init__(self, whole: Annotations, form: Form, prefix: str, definitions: Mapping[str, Any]) -> None:
        self._whole = whole
        self._form = form
        self._prefix = prefix
        self._definitions = definitions
        self._inside: list[str] = []

    def text(self, schema: Any) -> str:
        """Return the annotation of a schema; `Any` if the schema is empty, or has no equivalent in Python."""
        if not isinstance(schema, dict):
            return self._named("Any")
        if "$ref" in schema:
            return self._of_reference(str(schema["$ref"]))
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values is not None:
            return self._of_values(values)
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices:
            return self._of_choices(choices)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._union(self.text({**schema, "type": kind}) for kind in kinds)
        return self._of_kind(kinds, schema)

    def _of_reference(self, reference: str) -> str:
        title = reference.rpartition("/")[2]
        schema = self._definitions.get(title)
        if not isinstance(schema, dict) or title in self._inside or len(self._inside) > _DEEPEST:
            return self._named("Any")
        is_object = _is_named_object(schema)
        if (is_object or "enum" in schema) and title.isidentifier():
            if self._form is Form.HEARD:
                return self._named("Any")
            return self._whole.define(title, schema, self._form, self._prefix, self._definitions)
        self._inside.append(title)
        try:
            return self.text(schema)
        finally:
            self._inside.pop()

    def _of_values(self, values: Iterable[Any]) -> str:
        if self._form is Form.HEARD:
            return self._union(type(value).__name__ if value is not None else "None" for value in values)
        texts = []
        for value in values:
            if value is None:
                texts.append("None")
            elif isinstance(value, (str, int)):
                texts.append(f"{self._named('Literal')}[{quoted(value)}]")
            else:
                texts.append("float" if isinstance(value, float) else self._named("Any"))
        literals = [text.removeprefix("Literal[").removesuffix("]") for text in texts if text.startswith("Literal[")]
        joined = [f"Literal[{', '.join(literals)}]"] if literals else []
        return self._union([*joined, *(text for text in texts if not text.startswith("Literal["))])

    def _of_choices(self, choices: list[Any]) -> str:
        if choices == _DECIMAL:
            decimal = self._named("Decimal")
            return f"{decimal} | float" if self._form is Form.GIVEN else decimal
        return self._union(self.text(each) for each in choices)

    def _union(self, texts: Iterable[str]) -> str:
        parts = [*dict.fromkeys(part for text in texts for part in _split(text))]
        return "Any" if "Any" in parts else " | ".join(parts) or self._named("Any")

    def _of_kind(self, kind: Any, schema: Any) -> str:
        if kind == "string" and schema.get("format") in _OF_FORMAT:
            return self._named(_OF_FORMAT[schema["format"]])
        if kind in _PLAIN:
            return _PLAIN[kind]
        if self._form is Form.HEARD or kind not in ("array", "object"):
            return self._named("Any")
        return self._of_array(schema) if kind == "array" else self._of_object(schema)

    def _of_array(self, schema: Any) -> str:
        first: list[Any] = schema.get("prefixItems", [])
        item = self._union(
            [self.text(each) for each in first] + ([self.text(schema.get("items"))] if not first else [])
        )
        if self._form is Form.RETURNED:
            return f"list[{item}]"
        if first and "items" not in schema and len(first) == schema.get("minItems") == schema.get("maxItems"):
            return f"tuple[{', '.join(self.text(each) for each in first)}] | list[{item}]"
        further = f" | {self._named('Set')}[{item}]" if schema.get("uniqueItems") else ""
        # Not Sequence[str]: a single str would match it, too.
        several = (
            f"list[{item}] | tuple[{item}, ...]" if "str" in _split(item) else f"{self._named('Sequence')}[{item}]"
        )
        return several + further

    def _of_object(self, schema: Any) -> str:
        value = self._named("Any") if schema.get("properties") else self.text(schema.get("additionalProperties"))
        if self._form is Form.RETURNED:
            return f"dict[str, {value}]"
        return f"{self._named('Mapping')}[{self._named('Any')}, {value}]"

    def _named(self, name: str) -> str:
        if name in _IMPORTS:
            self._whole.needs(name)
        return name


def as_text(schema: Any) -> str:
    """Return a schema as text for people: `int | None`."""
    text = Annotations().of(schema, Form.RETURNED, prefix="") if schema is not False else "nothing"
    return "anything" if text == "Any" else text.replace("_dt.", "")


def quoted(value: object) -> str:
    """Return a plain value as Python code, strings in double quotes as formatters write them."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def in_order(schema: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return the properties of an object, required ones first in declared order, and the names of the required ones."""
    properties = schema["properties"]
    required = [each for each in schema.get("required", ()) if each in properties]
    names = [*required, *sorted(properties.keys() - {*required})]
    return {name: properties[name] for name in names}, {*required}


def is_plain_name(name: str) -> bool:
    """Return whether a name is valid for a parameter and an attribute."""
    return name.isidentifier() and not keyword.iskeyword(name) and name not in ("self", "__class__")


def _is_named_object(schema: Mapping[str, Any]) -> bool:
    kind, properties = schema.get("type"), schema.get("properties")
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind)
    return is_object and isinstance(properties, dict) and bool(properties) and all(map(is_plain_name, properties))


def _spelled_out(schema: Any, definitions: Mapping[str, Any]) -> str:
    """Return a schema as text, with all definitions it refers to: it distinguishes two classes of the same name."""
    used: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            title = str(part.get("$ref", "")).rpartition("/")[2]
            if title in definitions and title not in used:
                used[title] = definitions[title]
                waiting.append(definitions[title])
    return repr(schema) + repr(sorted(used.items(), key=lambda each: each[0]))


def _split(union: str) -> list[str]:
    """Return the members of a union; a `|` inside brackets belongs to a member."""
    parts, depth = [""], 0
    for piece in _PIECES.split(union):
        depth += (piece == "[") - (piece == "]")
        if piece == " | " and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def docstring(text: str, indent: str = "    ") -> list[str]:
    """Return the lines of a docstring; none for an empty text."""
    text = text.strip().replace("\\", "\\\\").replace('"', '\\"')
    lines = [f"{indent}{line}".rstrip() for line in text.splitlines()]
    if not lines:
        return []
    lines[0] = f'{indent}"""{lines[0].strip()}'
    return [*lines[:-1], f'{lines[-1]}"""'] if len(lines) == 1 else [*lines, f'{indent}"""']
