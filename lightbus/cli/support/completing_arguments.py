"""Shell completion of the arguments of a call or an event: their names and values, from the schema.

Shells split `name=value` differently: bash passes `name`, `=` and `value` as separate words and expects the value,
zsh and fish pass one word and expect the whole word.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from ...typing import JsonSchema
from ..schemas.annotations import in_order
from .catalogue import served_apis
from .completing import answer_for
from .connection import Connection

__all__ = ["argument_words", "complete_call_arguments", "complete_fire_arguments"]

_DEEPEST = 20
"""The deepest nesting of schemas that is followed: a schema may contain itself."""


def complete_call_arguments(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete an argument of the procedure to call."""
    return _complete(context, "rpcs", incomplete)


def complete_fire_arguments(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete an argument of the event to fire."""
    return _complete(context, "events", incomplete)


def _complete(context: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    api, _, member = (context.params.get("name") or "").rpartition(".")
    given = context.params.get("arguments") or ()

    async def words(bus: Connection) -> list[str]:
        for each in served_apis(await bus.discover_all()):
            if each.name == api:
                schema = await bus.ask(each.peers[0], "schema", timeout=bus.options.wait, api=api)
                return argument_words(schema[kind].get(member, {}).get("parameters", {}), given, incomplete)
        return []

    found: list[str] = answer_for(context, words, [])
    return [CompletionItem(word) for word in found]


def argument_words(schema: JsonSchema, given: Sequence[str], incomplete: str) -> list[str]:
    """
    Return the completions of a word: the names not given yet, or the values of an argument.

    Args:
        schema: the schema of all arguments.
        given: the words before it.
        incomplete: the beginning of the word.

    """
    properties, _ = in_order(schema) if isinstance(schema.get("properties"), dict) else ({}, set())
    name, equals, begun = incomplete.partition("=")
    before = ""
    if equals:
        before = f"{name}="
    elif given and given[-1] == "=":
        name, begun = given[-2] if len(given) > 1 else "", incomplete
    elif given and given[-1] in properties:
        name, begun = given[-1], incomplete
    else:
        known = {word.partition("=")[0] for word in given}
        return [f"{each}=" for each in properties if each not in known and _is_completable(each, incomplete)]
    values = dict.fromkeys(map(_spelled, _values(properties.get(name), schema.get("$defs", {}))))
    return [f"{before}{each}" for each in values if each.isprintable() and each.startswith(begun)]


def _is_completable(name: str, begun: str) -> bool:
    """Return whether a name has this beginning, and has no characters with a meaning in a shell."""
    return name.isidentifier() and name.startswith(begun)


def _values(schema: Any, definitions: Mapping[str, Any], depth: int = 0) -> Iterator[Any]:
    """Yield the values that a schema lists, its default first; none for types with too many values."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return
    if "default" in schema:
        yield schema["default"]
    if "const" in schema:
        yield schema["const"]
    yield from _listed(schema, "enum")
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        yield from (True, False) if kind == "boolean" else (None,) if kind == "null" else ()
    for each in (*_listed(schema, "anyOf"), *_listed(schema, "oneOf")):
        yield from _values(each, definitions, depth + 1)
    if "$ref" in schema:
        yield from _values(definitions.get(str(schema["$ref"]).rpartition("/")[2]), definitions, depth + 1)


def _listed(schema: Mapping[str, Any], word: str) -> list[Any]:
    listed = schema.get(word)
    return listed if isinstance(listed, list) else []


def _spelled(value: Any) -> str:
    """Return a value as written on a command line: a string unchanged, any other as JSON; quoted if need be."""
    return shlex.quote(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
