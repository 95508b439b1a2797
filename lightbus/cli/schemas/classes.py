"""The generated classes for a bus: one for each procedure, each event and each part of a path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...typing import JsonSchema
from .annotations import Annotations, Form, docstring, in_order, is_plain_name, quoted
from .inclusion import includes

__all__ = ["bus_classes"]

_TAKEN = {
    *("Bus", "AsyncIterable", "Iterable", "EventMessage", "CallOptions", "FireOptions", "TypedBus", "TypedEvent"),
    *("TypedPath", "TypedProcedure", "MessageListener", "BusPath", "typed", "lightbus", "annotations", "bus"),
}


_WIDTH = 116


@dataclass
class _PathNode:
    """A part of a path, with the member declared there, and the parts that can follow."""

    parts: tuple[str, ...] = ()
    procedure: JsonSchema | None = None
    event: JsonSchema | None = None
    children: dict[str, _PathNode] = field(default_factory=dict)

    def at(self, *names: str) -> _PathNode:
        node = self
        for name in names:
            node = node.children.setdefault(name, _PathNode((*node.parts, name)))
        return node


def bus_classes(schemas: Mapping[str, JsonSchema], *, body: str = "...") -> tuple[Annotations, list[str]]:
    """
    Return the lines of the classes for these APIs, and the annotations and definitions that they use.

    Names that are not valid attributes (an API with a hyphen in its name) are left out: they have no path either.

    Args:
        schemas: by API name.
        body: the body of each method; in a module that is not a stub it must not return a value.

    """
    root = _PathNode()
    for api, schema in sorted(schemas.items()):
        for name, parts in sorted(schema.get("rpcs", {}).items()):
            root.at(*api.split("."), name).procedure = parts
        for name, parts in sorted(schema.get("events", {}).items()):
            root.at(*api.split("."), name).event = parts
    classes = _Classes(root, body)
    return classes.annotations, [*classes.lines()]


class _Classes:
    def __init__(self, root: _PathNode, body: str) -> None:
        self._root = root
        self._body = body
        self._unset = "..." if body == "..." else "_UNSET"
        self._names: dict[tuple[str, ...], str] = {}
        self._name_all(root, {*_TAKEN})
        self.annotations = Annotations({*_TAKEN, *self._names.values()})

    def lines(self) -> Iterator[str]:
        """Yield the lines of all classes, each after the classes that it refers to."""
        yield from self._of_node(self._root)

    def _name_all(self, node: _PathNode, taken: set[str]) -> None:
        for child in node.children.values():
            name = "".join(_camel(part) for part in child.parts)
            while {name, f"{name}Arguments", f"{name}Listener", f"{name}Handler"} & taken:
                name += "_"
            taken |= {name, f"{name}Arguments", f"{name}Listener", f"{name}Handler"}
            self._names[child.parts] = name
            self._name_all(child, taken)

    def _of_node(self, node: _PathNode) -> Iterator[str]:
        children = {name: child for name, child in sorted(node.children.items()) if is_plain_name(name)}
        for child in children.values():
            yield from self._of_node(child)
        name = self._names.get(node.parts, "Bus")
        if node.event is not None:
            yield from self._before_event(name, node.event)
        yield from ("", "", f"class {name}({self._base(node, name)}):")
        yield f'    """{self._title(node)}"""'
        if children:
            yield ""
        for each, child in children.items():
            yield f"    {each}: {self._names[child.parts]}"
        if node.event is not None:
            yield from self._event(name, node.event)
        elif node.procedure is not None:
            yield from self._procedure(name, node.procedure)

    @staticmethod
    def _title(node: _PathNode) -> str:
        name = ".".join(node.parts)
        if node.event is not None:
            return f"The event {name}."
        if node.procedure is not None:
            return f"The procedure {name}."
        return f"What begins with {name}." if name else "What is on the bus."

    def _base(self, node: _PathNode, name: str) -> str:
        if node.event is not None:
            return f"TypedEvent[{name}Arguments, {name}Handler]"
        if node.procedure is not None:
            return "TypedProcedure"
        return "TypedPath" if node.parts else "TypedBus"

    def _procedure(self, name: str, parts: JsonSchema) -> Iterator[str]:
        schema = parts["parameters"]
        result = self.annotations.of(parts.get("response", {}), Form.RETURNED, prefix=name)
        given = self._parameters(name, schema, Form.GIVEN, options="CallOptions")
        doc = docstring(schema.get("description", ""), " " * 8) if isinstance(schema, dict) else []
        for define in ("def __call__", "def call", "async def call_async"):
            yield from ("", *_method(define, given, result, doc, self._body))

    def _event(self, name: str, parts: JsonSchema) -> Iterator[str]:
        given = self._parameters(name, parts["parameters"], Form.GIVEN, options="FireOptions")
        for define in ("def __call__", "def fire", "async def fire_async"):
            yield from ("", *_method(define, given, "EventMessage", [], self._body))

    def _before_event(self, name: str, parts: JsonSchema) -> Iterator[str]:
        """Yield the definitions that the class of an event needs: its arguments as a dict, and its listeners' types."""
        schema = parts["parameters"]
        self.annotations.needs("Protocol", "TypeAlias")
        yield from self._arguments(name, schema)
        heard = self._parameters(name, schema, Form.HEARD)
        for suffix, given in (
            (f"{name}Listener", ["event_message: EventMessage", "/", *heard]),
            (f"{name}Plain", heard),
        ):
            yield from ("", "", f"class {suffix}(Protocol):")
            yield from _method("def __call__", given, "object", [], "...")
        yield from ("", "", f"{name}Handler: TypeAlias = {name}Listener | {name}Plain | MessageListener")

    def _arguments(self, name: str, schema: Any) -> Iterator[str]:
        properties, required, rest = _parameters_of(schema)
        if rest is not False or not properties or not all(map(is_plain_name, properties)):
            self.annotations.needs("Mapping", "Any")
            yield from ("", "", f"{name}Arguments: TypeAlias = Mapping[str, Any]")
            return
        self.annotations.needs("TypedDict")
        yield from ("", "", f"class {name}Arguments(TypedDict):")
        for each, part in properties.items():
            text = self.annotations.of(part, Form.GIVEN, prefix=name, definitions=schema.get("$defs", {}))
            if each not in required:
                self.annotations.needs("NotRequired")
                text = f"NotRequired[{text}]"
            yield f"    {each}: {text}"

    def _parameters(self, name: str, schema: Any, form: Form, *, options: str = "") -> list[str]:
        """Return the keyword-only parameters, with the star; optional ones have a default."""
        properties, required, rest = _parameters_of(schema)
        definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
        of = self.annotations.of
        found = []
        for each, part in properties.items() if all(map(is_plain_name, properties)) else ():
            text = of(part, form, prefix=name, definitions=definitions)
            has_default = each not in required and form is Form.GIVEN
            found.append(f"{each}: {text}{f' = {self._default(part, definitions)}' if has_default else ''}")
        if options:
            found.append(f"bus_options: {options} | None = None")
        star = ["*"] if found else []
        if not all(map(is_plain_name, properties)):
            rest = True
        if rest is not False:
            found.append(f"**kwargs: {of(rest, form, prefix=name, definitions=definitions)}")
        return [*star, *found]

    def _default(self, schema: Any, definitions: Mapping[str, Any]) -> str:
        """Return a default as Python code if it has the annotation's type; else a placeholder of any type."""
        value = schema.get("default", ...) if isinstance(schema, dict) else ...
        is_plain = value is None or isinstance(value, (str, int, float))
        fits = is_plain and includes({**schema, "$defs": definitions}, {"const": value})
        return quoted(value) if fits and '"format"' not in json.dumps(schema) else self._unset


def _parameters_of(schema: Any) -> tuple[dict[str, Any], set[str], Any]:
    """Return the parameters by name, the names of the required ones, and the schema of further ones."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return {}, set(), True
    properties, required = in_order(schema)
    return properties, required, schema.get("additionalProperties", True)


def _method(define: str, parameters: list[str], result: str, doc: list[str], body: str) -> list[str]:
    one_line = f"    {define}({', '.join(['self', *parameters])}) -> {result}:"
    if len(one_line) <= _WIDTH:
        head = [one_line]
    else:
        listed = [f"        {each}," for each in ("self", *parameters)]
        head = [f"    {define}(", *listed, f"    ) -> {result}:"]
    if body == "..." and not doc:
        return [*head[:-1], f"{head[-1]} ..."]
    return [*head, *doc, f"        {body}"]


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_"))
