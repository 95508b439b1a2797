"""The house plan of docs/architecture/house.md, held: who may import whom, and who may touch the world."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightbus

PACKAGE = Path(lightbus.__path__[0])

FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "__about__",
        "exceptions",
        "phrases",
        "typing",
        "deadline",
        "message",
        "listener",
        "keywords",
        "recurring",
        "config",
    ),
    ("wire",),
    ("core", "service", "ports"),
    ("adapters.host",),
    ("adapters", "adapters.zmq", "adapters.mdns", "adapters.sqlite", "adapters.memory", "adapters.nats"),
    ("membership", "io"),
    ("rpc", "events"),
    ("engine",),
    (
        "__init__",
        "blocking",
        "client",
        "creation",
        "importing",
        "logs",
        "path",
        "plugins",
        "scheduling",
        "testing",
        "utilities",
    ),
    ("cli", "__main__"),
)
"""The rooms of each floor, from the ground. A room is a package or a module right below `lightbus`, or an adapter."""

TOGETHER = {0, 8, 9}
"""Floors on which rooms may know each other: words, what users touch, the command line. On the others they do not."""

ONLY_IN = {
    "zmq": {"adapters.zmq"},
    "zeroconf": {"adapters.mdns"},
    "ifaddr": {"adapters.host"},
    "sqlite3": {"adapters.sqlite"},
    "nats": {"adapters.nats"},
    "msgpack": {"wire"},
}
"""Libraries that only these rooms may import: everyone else sees our own interface."""

NO_WORLD = {"core", "wire"}
WORLD = {"asyncio", "selectors", "signal", "socket", "subprocess", "threading", "time"}
"""What rooms that hold only state and bytes may not import: `now` is an argument, sockets are `io`'s."""


def floor_of(room: str) -> int:
    """Return the number of the floor that the room is on."""
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"lightbus/{room} stands on no floor: add it to FLOORS and to docs/architecture/house.md")


def room_of(module: str) -> str:
    """Return the room of a module named from inside the package: `wire.codec` -> `wire`, `` -> `__init__`."""
    first, _, rest = module.partition(".")
    if first == "adapters" and rest.partition(".")[0] not in ("", "__init__"):
        return f"adapters.{rest.partition('.')[0]}"
    return first or "__init__"


def imports(source: str, module: str, modules: set[str]) -> Iterator[str]:
    """
    Yield the full name of everything that the source imports, inside functions and under TYPE_CHECKING too.

    `module` is the importing module's own name (`lightbus.wire.codec`; of a package with `.__init__`),
    `modules` all that exist, to tell `from . import codec`, a module, from a mere name.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in modules else base


def violations(source: str, module: str, modules: set[str]) -> list[str]:
    """Return a sentence for each import of `module` that the plan does not allow."""
    own = module.removeprefix("lightbus.")
    room = room_of(own)
    found = []
    for name in imports(source, module, modules):
        top = name.partition(".")[0]
        if top == "lightbus":
            other = room_of(name.removeprefix("lightbus").removeprefix("."))
            if other != room and not may_know(room, other):
                found.append(f"{own} (floor {floor_of(room)}) imports {name} (floor {floor_of(other)})")
        elif top in ONLY_IN and room not in ONLY_IN[top]:
            found.append(f"{own} imports {top}, which only {' and '.join(sorted(ONLY_IN[top]))} may")
        elif top in WORLD and room in NO_WORLD:
            found.append(f"{own} imports {top}, but {room} does not touch the world")
    return found


def may_know(room: str, other: str) -> bool:
    """Return whether a module of `room` may import from `other`, another room."""
    if floor_of(other) == floor_of(room):
        return floor_of(room) in TOGETHER
    return floor_of(other) < floor_of(room)


def package_sources() -> dict[str, Path]:
    """Return every module of the package by its full name."""
    return {
        ".".join(("lightbus", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


SOURCES = package_sources()
KNOWN = set(SOURCES) | {name.removesuffix(".__init__") for name in SOURCES}


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_to_its_floor(module: str) -> None:
    """A module imports from lower floors and its own only, and leaves the world to those who own it."""
    assert violations(SOURCES[module].read_text(), module, KNOWN) == []


MADE_UP = {"lightbus.core", "lightbus.core.calls", "lightbus.service", "lightbus.service.api", "lightbus.wire.codec"}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("wire.codec", "from ..core.calls import Calls", "wire.codec (floor 1) imports lightbus.core.calls (floor 2)"),
        ("wire.codec", "from .. import core", "wire.codec (floor 1) imports lightbus.core (floor 2)"),
        ("core.calls", "import lightbus", "core.calls (floor 2) imports lightbus (floor 8)"),
        ("core.calls", "from ..service import api", "core.calls (floor 2) imports lightbus.service.api (floor 2)"),
        ("rpc.server", "from ..events import groups", "rpc.server (floor 6) imports lightbus.events (floor 6)"),
        (
            "adapters.zmq.gate",
            "from ..sqlite import journal",
            "adapters.zmq.gate (floor 4) imports lightbus.adapters.sqlite (floor 4)",
        ),
        (
            "deadline",
            "def f():\n    from .wire import codec",
            "deadline (floor 0) imports lightbus.wire.codec (floor 1)",
        ),
        ("client", "from .cli import main", "client (floor 8) imports lightbus.cli (floor 9)"),
        ("blocking", "import zmq", "blocking imports zmq, which only adapters.zmq may"),
        ("core.calls", "from time import monotonic", "core.calls imports time, but core does not touch the world"),
    ],
)
def test_checker_sees_violation(module: str, source: str, expected: str) -> None:
    """Each way to break the plan is found and named."""
    assert violations(source, f"lightbus.{module}", MADE_UP) == [expected]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.calls", "from ..wire.codec import encode\nfrom . import registry\nimport heapq"),
        ("core.__init__", "from .calls import Calls"),
        ("__init__", "from .client import BusClient\nfrom .exceptions import LightbusException"),
        ("cli.run", "import lightbus\nfrom ..engine.worker import Worker"),
        ("adapters.zmq.transport", "import zmq, asyncio\nfrom ..host import locks"),
        ("wire.codec", "import msgpack"),
        ("client", "from .path import BusPath"),
    ],
)
def test_checker_lets_good_imports_pass(module: str, source: str) -> None:
    """What the plan allows is not complained of."""
    assert violations(source, f"lightbus.{module}", MADE_UP) == []


ENDPOINT = re.compile(r"\b(tcp|ipc|inproc)://")

WRITES_ENDPOINTS = {"config.fields", "config.settings"}
"""Besides the adapters: the settings say how people write a fixed peer."""

CHOOSES_TRANSPORT = {"engine.network", "io.transport"}
"""Who picks the adapter; and an earlier name that is kept for programs that reach inside."""


def endpoints_in(source: str) -> list[str]:
    """Return the texts of a module, those that describe it left out, in which an endpoint is written."""
    tree = ast.parse(source)
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in described]
    return [node.value for node in texts if isinstance(node.value, str) and ENDPOINT.search(node.value)]


@pytest.mark.parametrize("module", [name for name in SOURCES if not name.startswith("lightbus.adapters.")])
def test_only_adapters_know_transports(module: str) -> None:
    """Nobody else takes an endpoint apart or makes one, and only the engine picks the adapter that does."""
    source = SOURCES[module].read_text()
    own = module.removeprefix("lightbus.")
    if own not in WRITES_ENDPOINTS:
        assert endpoints_in(source) == []
    if own not in CHOOSES_TRANSPORT:
        assert [name for name in imports(source, module, KNOWN) if name.startswith("lightbus.adapters.zmq")] == []


def test_checker_sees_endpoints() -> None:
    """A text is found wherever it is, in an f-string too; a docstring may name one."""
    assert endpoints_in('def f(a):\n    """Return tcp://x."""\n    return f"tcp://{a}:1", "ipc"') == ["tcp://"]


def test_room_without_floor_is_named() -> None:
    """A new module has to be given its floor before anything else."""
    with pytest.raises(AssertionError, match="lightbus/shed stands on no floor"):
        floor_of("shed")
