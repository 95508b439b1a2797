"""`lightbus version`."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from helpers import Processes

if TYPE_CHECKING:
    from ..conftest import Commands


def test_version_lists_its_libraries(processes: Processes) -> None:
    """The version of the package, of Python and of the libraries."""
    process = processes.lightbus("version")
    assert process.wait() == 0
    first, second, third = process.stdout.splitlines()
    assert first == f"lightbus {version('lightbus')}"
    assert re.fullmatch(f"python {platform.python_version()}, libzmq 4[0-9.]+, pyzmq {version('pyzmq')}", second)
    assert third == f"zeroconf {version('zeroconf')}, msgpack {version('msgpack')}"


def test_version_as_an_option(processes: Processes) -> None:
    """`lightbus --version` prints it in one line."""
    process = processes.lightbus("--version")
    assert process.wait() == 0
    assert process.stdout == f"lightbus {version('lightbus')}\n"


def test_version_for_programs(commands: Commands) -> None:
    """With --json it is one object, each field of which is documented."""
    [told] = commands.json("version")
    assert set(told) == {"lightbus", "python", "libzmq", "pyzmq", "zeroconf", "msgpack"}
    assert told["lightbus"] == version("lightbus")
