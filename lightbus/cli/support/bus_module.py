"""Load the bus module for a command, with hints for the common mistakes of new users."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from importlib.machinery import PathFinder
from itertools import islice
from pathlib import Path
from types import ModuleType, TracebackType

from ...creation import DEFAULT_MODULE, get_bus, import_bus_module
from ...exceptions import FailedToImportBusModule, InvalidConfiguration, NoBusFoundInBusModule
from ...path import BusPath

__all__ = ["is_module_there", "load_bus"]

NEARBY = 3
"""The most other places that a message names."""


def is_module_there(name: str | None) -> bool:
    """Return whether a bus module is named, also by `LIGHTBUS_MODULE`, or there is a bus.py for `load_bus`."""
    if name or os.environ.get("LIGHTBUS_MODULE"):
        return True
    # Not `importlib.util.find_spec`: the script `lightbus` has its own directory on the path, and not the working one.
    found = PathFinder.find_spec(DEFAULT_MODULE, [os.getcwd(), *sys.path])
    return found is not None and found.origin is not None  # else it is just a directory of that name


def load_bus(name: str | None) -> tuple[BusPath, ModuleType]:
    """
    Return the bus of the module `name` (else `LIGHTBUS_MODULE`, else `bus`), and the module.

    The traceback of a failed import goes to standard error, without the frames of the import system.

    Raises:
        FailedToImportBusModule: the name is not a module's, or the module is missing, or it raised.
        InvalidConfiguration: the module was imported, and its settings are invalid.
        NoBusFoundInBusModule: the module makes no bus.

    """
    name = name or os.environ.get("LIGHTBUS_MODULE") or DEFAULT_MODULE
    _refuse_file(name)
    module = _import(name)
    try:
        return get_bus(module), module
    except NoBusFoundInBusModule as error:
        raise NoBusFoundInBusModule(f"{error} (It was loaded from {file_of(module)}.)") from None


def file_of(module: ModuleType) -> str:
    """Return where a module was loaded from, for people."""
    return getattr(module, "__file__", None) or "a directory without __init__.py"


def _import(name: str) -> ModuleType:
    try:
        return import_bus_module(name)
    except FailedToImportBusModule as error:
        cause = error.__cause__
        if isinstance(cause, InvalidConfiguration):
            raise cause from None  # a setting is wrong, not the module: the message says which and where
        if cause is not None and not _is_missing(name, cause):  # else only our own frames
            _show_traceback(cause)
        raise FailedToImportBusModule(f"{error}{_advice(name, cause)}") from cause
    except SystemExit as error:
        _show_traceback(error)
        raise FailedToImportBusModule(
            f"The bus module '{name}' ended the program when it was imported (SystemExit: {error.code}). "
            "Keep what a script does below `if __name__ == '__main__':`."
        ) from error


def _refuse_file(name: str) -> None:
    """Raise FailedToImportBusModule for the path of a file, with the right command."""
    if not name.endswith(".py") and "/" not in name:
        return
    path = Path(name)
    directory = "" if path.parent == Path() else f"cd {shlex.quote(str(path.parent))} && "
    raise FailedToImportBusModule(
        f"'{name}' is the path of a file. --bus and LIGHTBUS_MODULE want the name of a module, without '.py', which is "
        f"looked for in the working directory. Run: {directory}lightbus run --bus {shlex.quote(path.stem)}"
    )


def _advice(name: str, cause: BaseException | None) -> str:
    """Return a hint about a common cause of a failed import; empty if none is known."""
    if isinstance(cause, ModuleNotFoundError):
        if _is_missing(name, cause):
            return _elsewhere(name)
        return f" (That is the environment of {sys.executable}.)"
    if isinstance(cause, ImportError) and "relative import" in str(cause):
        package = Path.cwd().name
        return (
            " A module that says `from . import` is part of a package, and is run from the directory above it: "
            f"cd .. && lightbus run --bus {shlex.quote(f'{package}.{name}')}"
        )
    return ""


def _is_missing(name: str, cause: BaseException) -> bool:
    """Return whether the module itself, or a package that it would be in, is missing."""
    return isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}.")


def _elsewhere(name: str) -> str:
    """Return a sentence that names modules of this name right below or above the working directory."""
    file = Path(*name.split(".")).with_suffix(".py")
    here = Path.cwd()
    below = islice((path.relative_to(here) for path in sorted(here.glob(f"*/{file}"))), NEARBY)
    above = [Path(os.path.relpath(parent)) / file for parent in here.parents if (parent / file).is_file()]
    found = [*below, *above[:1]]
    if not found:
        return ""
    directory = found[0].parents[len(file.parts) - 1]
    there = f"{'is' if len(found) == 1 else 'are'} {', '.join(map(str, found))}"
    return f" There {there}. Run: cd {shlex.quote(str(directory))} && lightbus run --bus {shlex.quote(name)}"


def _show_traceback(error: BaseException) -> None:
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = _without_importlib(each.__traceback__)
        each = each.__cause__ or each.__context__
    traceback.print_exception(error)


def _without_importlib(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of the import system, which are of no use to a reader."""
    kept: TracebackType | None = None
    frames = []
    while trace is not None:
        if not _is_importlib(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept


def _is_importlib(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.endswith("importlib/__init__.py")
