"""
Named contexts: a bus and how to reach it, under a name that the user chooses.

A context stands for environment variables. The values of a context that a command names override the environment; those
of the context in use apply to variables that are not set. All contexts are stored in one file beside the bus key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ...config.durable_files import write_durably
from ...config.keys import default_key_file
from ...config.surroundings import make_private
from ...exceptions import InvalidConfiguration, LightbusException, UnsupportedUse, did_you_mean

__all__ = ["FIELDS", "Contexts", "complete_contexts", "context_file", "environment", "load_contexts", "save_contexts"]

FIELDS = {
    "config": "LIGHTBUS_CONFIG",
    "bus_name": "LIGHTBUS_BUS",
    "key_file": "LIGHTBUS_BUS_KEY_FILE",
    "security": "LIGHTBUS_SECURITY",
    "peers": "LIGHTBUS_PEERS",
    "interfaces": "LIGHTBUS_INTERFACES",
}
"""Field of a context -> the environment variable it stands for."""

KEY = "LIGHTBUS_BUS_KEY"
"""Overrides the key file, so it is removed for a context that names a key file."""

CHOSEN = "LIGHTBUS_CONTEXT"
"""The variable that names a context for all commands of a shell."""


@dataclass(slots=True, kw_only=True)
class Contexts:
    """All contexts of a user: the fields of each (`said`), and the name of the one in use, or empty."""

    said: dict[str, dict[str, str]] = field(default_factory=dict)
    current: str = ""

    def get(self, name: str) -> dict[str, str]:
        """Return the fields of a context. Raises InvalidConfiguration for an unknown name."""
        if name not in self.said:
            there = ", ".join(sorted(self.said)) or "none yet: lightbus context add"
            raise InvalidConfiguration(
                f"There is no context {name!r:.100}.{did_you_mean(name, self.said)} There are: {there}."
            )
        return self.said[name]


def context_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the contexts' file. Raises UnsupportedUse for a user without a home."""
    key = default_key_file(os.environ if environ is None else environ)
    if key is None:
        raise UnsupportedUse("This user has no home to keep contexts in: set HOME or XDG_CONFIG_HOME.")
    return key.with_name("contexts.json")


def load_contexts(environ: Mapping[str, str] | None = None) -> Contexts:
    """Read the contexts; without a file there are none. Raises InvalidConfiguration for an invalid file."""
    file = context_file(environ)
    try:
        held = json.loads(file.read_text("utf-8"))
        said = {
            str(name): {key: str(each[key]) for key in FIELDS if key in each} for name, each in held["said"].items()
        }
        return Contexts(said=said, current=str(held["current"]))
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise InvalidConfiguration(
            f"The contexts in {file} cannot be read: {error.strerror}. Let this user read them, or set HOME to its own "
            "home."
        ) from error
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise InvalidConfiguration(
            f"The contexts in {file} cannot be read ({error!r}). Repair the file, or remove it and add them again."
        ) from error


def save_contexts(contexts: Contexts) -> None:
    """Write all contexts, atomically. Raises UnsupportedUse if they cannot be written."""
    file = context_file()
    try:
        make_private(file.parent)
        content = json.dumps({"current": contexts.current, "said": contexts.said}, indent=2, ensure_ascii=False)
        write_durably(file, content.encode())
    except OSError as error:
        raise UnsupportedUse(f"The contexts were not written to {file}: {error}.") from error


def environment(named: str | None, environ: Mapping[str, str] | None = None) -> tuple[dict[str, str], str]:
    """
    Return the environment for a command, and the name of the context in use, empty for none.

    Args:
        named: the context named on the command line.
        environ: the environment; by default `os.environ`.

    """
    before = dict(os.environ if environ is None else environ)
    name = named or before.get(CHOSEN, "")
    if name:
        said = _variables(load_contexts(before).get(name))
        if "LIGHTBUS_BUS_KEY_FILE" in said:
            before.pop(KEY, None)
        return before | said, name
    if default_key_file(before) is None:
        return before, ""
    contexts = load_contexts(before)
    if not contexts.current:
        return before, ""
    said = _variables(contexts.get(contexts.current))
    return before | {key: value for key, value in said.items() if not before.get(key)}, contexts.current


def _variables(said: Mapping[str, str]) -> dict[str, str]:
    return {FIELDS[key]: value for key, value in said.items()}


def complete_contexts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a context."""
    try:
        names = sorted(load_contexts().said)
    except LightbusException:
        return []  # the command itself reports it
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
