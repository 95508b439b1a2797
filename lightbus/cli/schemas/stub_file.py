"""A file with the types of a bus for type checkers, and with the schemas it was made of, for a later comparison."""

from __future__ import annotations

import base64
import json
import textwrap
import zlib
from collections.abc import Mapping
from pathlib import Path

from ...exceptions import UnsupportedUse
from ...typing import JsonSchema
from .classes import bus_classes

__all__ = ["file_of", "read_back", "stub_text"]

_MARK = "# lightbus stubs: "
_WIDTH = 110

_BEGINNING = '''"""
What is on the bus, for type checkers and editors. Written by `lightbus stubs`: make it anew, and change nothing here.

`lightbus stubs --check` compares it with the bus.
"""

from __future__ import annotations

'''
_IMPORTS = """
from lightbus.message import EventMessage{path}
from lightbus.typed import CallOptions, FireOptions, TypedBus, TypedEvent, TypedPath, TypedProcedure
"""
_UNSET = """
_UNSET: Any = ...
"""
_LISTENER = '''

class MessageListener(Protocol):
    """What takes the message alone."""

    def __call__(self, event_message: EventMessage, /) -> object: ...'''
_OF_A_MODULE = """


bus: Bus


def __getattr__(name: str) -> Any: ...
"""
_OF_A_PACKAGE = '''


def typed(bus: BusPath) -> Bus:
    """Return a bus as it is; to type checkers it has from now on what is written here."""
    return cast("Bus", bus)
'''


def stub_text(schemas: Mapping[str, JsonSchema], *, package: bool) -> str:
    """
    Return the text of a file for these APIs.

    Args:
        schemas: by API name; a `description` beside the parameters becomes a docstring.
        package: whether it is a module to import; else it is a stub (`bus.pyi`) beside a bus module.

    """
    schemas = json.loads(json.dumps(schemas, sort_keys=True))  # one order for files and the bus
    annotations, classes = bus_classes(schemas, body="raise NotImplementedError" if package else "...")
    annotations.needs("Protocol", "Any", *(["cast"] if package else []))
    imports = _IMPORTS.format(path="\nfrom lightbus.path import BusPath" if package else "")
    imports += _UNSET if package else ""
    lines = [*_LISTENER.splitlines(), *annotations.definitions(), *classes]
    end = _OF_A_PACKAGE if package else _OF_A_MODULE
    body = "\n".join(line.rstrip() for line in lines)
    head = "\n".join(annotations.header())
    return f"{_BEGINNING}{head}\n{imports}{body}{end}\n\n{_kept(schemas)}"


def file_of(out: Path | None, package: Path | None) -> Path | None:
    """Return the file to write; None for standard output."""
    return out if package is None else package / "__init__.py"


def read_back(text: str, name: object) -> dict[str, JsonSchema]:
    """Return the schemas that a file was made of. Raises UnsupportedUse if this command did not make it."""
    kept = "".join(line.removeprefix(_MARK) for line in text.splitlines() if line.startswith(_MARK))
    try:
        found = json.loads(zlib.decompress(base64.b64decode(kept, validate=True)))
    except (ValueError, RecursionError, zlib.error):
        found = None
    if not isinstance(found, dict):
        raise UnsupportedUse(
            f"{name} was not written by `lightbus stubs`, or what it was made of was removed from its end. "
            "Write it again."
        )
    return found


def _kept(schemas: Mapping[str, JsonSchema]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(schemas, sort_keys=True).encode(), 9)).decode()
    return "".join(f"{_MARK}{line}\n" for line in textwrap.wrap(packed, _WIDTH - len(_MARK)))
