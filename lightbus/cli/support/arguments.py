"""
Parse the arguments of a call or an event on a command line.

`user=admin` is one argument; its value is JSON if it parses, else text. `payload=@file` and `payload=-` take the value
from a file or from standard input; `@file`, `-` or `{...}` alone gives an object of all arguments. If a value is valid
both as JSON and as text, the advertised schema decides: with `password: str`, `password=1234` is text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...exceptions import InvalidArguments, InvalidSchema
from ...service.validating import CompiledSchema
from ...typing import JsonSchema, Kwargs

__all__ = ["parse_arguments"]


def parse_arguments(words: Sequence[str], schema: JsonSchema) -> Kwargs:
    """
    Parse words of the command line into arguments.

    Args:
        words: the words of the command line.
        schema: the JSON Schema of the arguments, which decides between text and JSON.

    Raises:
        InvalidArguments: a word is not an argument, a file cannot be read, or an argument is given twice.

    """
    kwargs: Kwargs = {}
    for word in words:
        name, equals, text = word.partition("=")
        is_whole = word in ("-",) or word.startswith(("@", "{"))
        if not is_whole and (not equals or not name):
            raise InvalidArguments(f"'{word}' is not an argument. Write name=value, as in user=admin.")
        given = _object(word) if is_whole else {name: _value(name, _content(text), schema)}
        for each in given.keys() & kwargs.keys():
            raise InvalidArguments(f"The argument '{each}' is given twice.")
        kwargs.update(given)
    return kwargs


def _object(word: str) -> Kwargs:
    text = _content(word)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArguments(f"'{word}' holds no JSON ({error}). It has to be an object of all arguments.") from None
    if not isinstance(value, dict):
        raise InvalidArguments(f"'{word}' is not a JSON object. It has to hold all arguments by name.")
    return value


def _content(text: str) -> str:
    """Return the text itself, or for `@file` and `-` the content of the file or of standard input."""
    try:
        if text == "-":
            return sys.stdin.read()
        if text.startswith("@"):
            return Path(text[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArguments(f"'{text}' cannot be read: {error}") from error
    return text


def _value(name: str, text: str, schema: JsonSchema) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str) or _fits(value, name, schema) or not _fits(text, name, schema):
        return value
    return text


def _fits(value: Any, name: str, schema: JsonSchema) -> bool:
    wanted = schema.get("properties", {}).get(name, {})
    try:
        compiled = CompiledSchema({**wanted, "$defs": schema.get("$defs", {})}, what=f"The schema of '{name}'")
    except InvalidSchema:
        return True
    return compiled.problem(value) is None
