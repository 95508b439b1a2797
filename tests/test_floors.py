"""The rules of docs/architecture/house.md: which modules may import which, and use sockets, files or a clock."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

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
        "interrupts",
        "message",
        "listener",
        "keywords",
        "old_names",
        "recurring",
        "tracing",
        "config",
    ),
    ("wire",),
    ("core", "service", "ports"),
    ("adapters.host",),
    (
        "adapters",
        "adapters.zmq",
        "adapters.mdns",
        "adapters.sqlite",
        "adapters.memory",
        "adapters.nats",
        "adapters.dns",
    ),
    ("membership", "io"),
    ("rpc", "events"),
    ("engine",),
    (
        "__init__",
        "blocking",
        "client",
        "creation",
        "importing",
        "json_logs",
        "logs",
        "api",
        "hooks",
        "internal_apis",
        "path",
        "path_names",
        "plugins",
        "schema",
        "pytest_plugin",
        "scheduling",
        "testing",
        "typed",
        "utilities",
    ),
    ("cli", "contrib", "dashboard", "gateway", "web", "__main__"),
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
    "dns": {"adapters.dns"},
    "prometheus_client": {"plugins"},
    "uvicorn": {"web"},
    "opentelemetry": {"plugins"},
    "msgpack": {"wire"},
    "django": {"contrib", "utilities"},
    "starlette": {"contrib", "dashboard", "gateway", "web"},
    "fastapi": {"contrib"},
    "flask": {"contrib"},
    "sqlalchemy": {"contrib"},
    "asgiref": {"contrib", "utilities"},
    "h11": {"web"},
    "click": {"cli"},
    "rich": {"cli"},
    "IPython": {"cli"},
    "watchfiles": {"cli"},
    "uvloop": {"client"},
    "pytest": {"pytest_plugin"},
    "cryptography": {"adapters.zmq"},
    "jsonschema_rs": {"service"},
    "pydantic": {"adapters.nats", "plugins", "service"},
    "pydantic_core": {"config", "gateway", "service"},
    "typing_extensions": {"adapters.nats", "service"},
    "yaml": {"cli", "config"},
}
"""Libraries that only these rooms may import: everyone else sees our own interface."""

NO_WORLD = {"core", "wire"}
WORLD = {"asyncio", "selectors", "signal", "socket", "subprocess", "threading", "time"}
"""What rooms that hold only state and bytes may not import: `now` is an argument, sockets are the adapters'."""

NO_SOCKETS = {"service", "ports", "membership", "rpc", "events", "engine", "client"}
SOCKETS = {"fcntl", "mmap", "select", "selectors", "socket", "ssl", "subprocess"}
"""What rooms may not import in which something happens with messages: that is the adapters'."""


def floor_of(room: str) -> int:
    """Return the number of the floor that the room is on."""
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"lightbus/{room} is on no floor: add it to FLOORS and to docs/architecture/house.md")


def room_of(module: str) -> str:
    """Return the room of a module named from inside the package: `wire.codec` -> `wire`, `` -> `__init__`."""
    first, _, rest = module.partition(".")
    if first == "adapters" and rest.partition(".")[0] not in ("", "__init__"):
        return f"adapters.{rest.partition('.')[0]}"
    return first or "__init__"


@functools.lru_cache(maxsize=1)
def nodes_of(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Return all AST nodes of a module, for several checks."""
    return tuple(ast.walk(tree))


def imports(tree: ast.AST, module: str, modules: set[str]) -> Iterator[str]:
    """
    Yield the full name of everything that a module imports, inside functions and under TYPE_CHECKING too, and by name.

    `module` is the importing module's own name (`lightbus.wire.codec`; of a package with `.__init__`),
    `modules` all that exist, to tell `from . import codec`, a module, from a mere name.
    """
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in modules else base
        elif isinstance(node, ast.Call) and last_name(node.func) in ("import_module", "__import__"):
            yield from (each.value for each in node.args[:1] if isinstance(each, ast.Constant))


def last_name(node: ast.expr) -> str:
    """Return the part after the last dot of a name; nothing for other expressions."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def violations(names: Iterable[str], module: str) -> list[str]:
    """Return a sentence for each name that `module` imports and the plan does not allow."""
    own = module.removeprefix("lightbus.")
    room = room_of(own)
    floor_of(room)  # it has one, whatever is imported
    found = []
    for name in names:
        top = name.partition(".")[0]
        if top == "lightbus":
            other = room_of(name.removeprefix("lightbus").removeprefix("."))
            if other != room and not may_know(room, other):
                found.append(f"{own} (floor {floor_of(room)}) imports {name} (floor {floor_of(other)})")
        elif top in ONLY_IN and room not in ONLY_IN[top]:
            found.append(f"{own} imports {top}, which only {' and '.join(sorted(ONLY_IN[top]))} may")
        elif top in WORLD and room in NO_WORLD:
            found.append(f"{own} imports {top}, but {room} does not touch the world")
        elif top in SOCKETS and room in NO_SOCKETS:
            found.append(f"{own} imports {top}, which only adapters may")
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


class Declared(NamedTuple):
    """A class: its name, the methods and attributes in its own body, and bases that are not from elsewhere."""

    name: str
    methods: set[str]
    attributes: set[str]
    bases: list[str]


class Facts(NamedTuple):
    """
    What is looked at of a module: imports, endpoints and names of files in it, sizes, imports for types only, the names
    of classes and aliases, and its classes.
    """

    imports: list[str]
    endpoints: list[str]
    sizes: list[tuple[str, str, int]]
    only_for_types: int
    classes: list[str]
    declared: list[Declared]


@functools.cache
def facts(module: str) -> Facts:
    """Return the facts about a module of the package, read once for all tests."""
    source = SOURCES[module].read_text()
    tree = ast.parse(source)
    return Facts(
        imports=[*imports(tree, module, KNOWN)],
        endpoints=endpoints_in(tree),
        sizes=[*sizes(tree, module, lines=source.count("\n"))],
        only_for_types=only_for_types(tree),
        classes=[*classes_in(tree)],
        declared=[*declared_in(tree)],
    )


def test_modules_keep_to_their_floors() -> None:
    """Each module imports from lower floors and its own only; only adapters import the libraries of the outside."""
    assert [each for module in SOURCES for each in violations(facts(module).imports, module)] == []


def test_each_library_has_its_rooms() -> None:
    """Each third-party library is listed, with exactly the modules that import it."""
    importing: dict[str, set[str]] = {}
    for module in SOURCES:
        for top in {name.partition(".")[0] for name in facts(module).imports} - {"lightbus", ""}:
            if top in ONLY_IN or top not in sys.stdlib_module_names:
                importing.setdefault(top, set()).add(room_of(module.removeprefix("lightbus.")))
    assert importing == ONLY_IN


MADE_UP = {"lightbus.core", "lightbus.core.calls", "lightbus.service", "lightbus.service.api", "lightbus.wire.codec"}


def made_up_imports(source: str, module: str) -> Iterator[str]:
    """Return the imports of a made-up module's source."""
    return imports(ast.parse(source), f"lightbus.{module}", MADE_UP)


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
        (
            "wire.codec",
            "if TYPE_CHECKING:\n    from ..service import api",
            "wire.codec (floor 1) imports lightbus.service.api (floor 2)",
        ),
        (
            "blocking",
            "import importlib\nimportlib.import_module('zmq')",
            "blocking imports zmq, which only adapters.zmq may",
        ),
        ("blocking", "__import__('zmq')", "blocking imports zmq, which only adapters.zmq may"),
        ("blocking", "import zmq", "blocking imports zmq, which only adapters.zmq may"),
        ("events.newest", "import socket", "events.newest imports socket, which only adapters may"),
        ("core.calls", "from time import monotonic", "core.calls imports time, but core does not touch the world"),
    ],
)
def test_checker_sees_violation(module: str, source: str, expected: str) -> None:
    """Each way to break the plan is found and named."""
    assert violations(made_up_imports(source, module), f"lightbus.{module}") == [expected]


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
    assert violations(made_up_imports(source, module), f"lightbus.{module}") == []


ROOMS_OF_EVENTS = [{""}, {"groups"}, {"publishing", "listening"}, {"backends"}]
"""From the ground, as the floors: what all rooms share comes first, and what is beside each other is not known."""


def step_of(module: str) -> tuple[int, str]:
    """Return the level and the room of a module of `events`; a module in no room is shared by all."""
    first = module.removeprefix("lightbus.events").removeprefix(".").partition(".")[0]
    for number, rooms in enumerate(ROOMS_OF_EVENTS):
        if first in rooms:
            return number, first
    return 0, ""


def test_rooms_of_events_stand_on_each_other() -> None:
    """Each module imports from its own room and from lower ones."""
    wrong = []
    for module in (name for name in SOURCES if name.startswith("lightbus.events.")):
        number, room = step_of(module)
        others = {name: step_of(name) for name in facts(module).imports if name.startswith("lightbus.events.")}
        wrong += [(module, name) for name, (step, other) in others.items() if other != room and step >= number]
    assert wrong == []


def test_packages_of_events() -> None:
    """A module outside the packages is shared, and so are its imports."""
    assert step_of("lightbus.events.newest") == step_of("lightbus.events.newest.Newest") == (0, "")
    assert (
        step_of("lightbus.events.groups.coordinator.Coordinator") == step_of("lightbus.events.groups") == (1, "groups")
    )


OF_ADAPTERS = re.compile(r"\b(tcp|ipc|inproc)://|\.sqlite\b|(^|\*)\.(rpc|pub|peer)$")
"""Endpoints, and names of files: what processes find each other by, and what they store."""

DESCRIBE_ENDPOINTS = {"lightbus.config.fields", "lightbus.config.settings"}
"""Who says, in an error and in a schema, how people write a fixed peer."""

CHOOSES_TRANSPORT = {"engine.zmq_network", "io.transport"}
"""Who picks the adapter; and an earlier name that is kept for programs that reach inside."""


def endpoints_in(tree: ast.AST) -> list[str]:
    """
    Return the texts of a module in which an endpoint, or the name of a file of an adapter, is written.

    Those that describe the module, a class or an attribute are left out.
    """
    described = {id(node.value) for node in nodes_of(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in nodes_of(tree) if isinstance(node, ast.Constant) and id(node) not in described]
    written = [each.value.decode("latin-1") if isinstance(each.value, bytes) else each.value for each in texts]
    return [each for each in written if isinstance(each, str) and OF_ADAPTERS.search(each)]


def test_only_adapters_know_transports() -> None:
    """Only adapters parse or make endpoints, and only the engine chooses the adapter."""
    others = [name for name in SOURCES if not name.startswith("lightbus.adapters.")]
    assert {module for module in others if facts(module).endpoints} == DESCRIBE_ENDPOINTS
    choose_none = [module for module in others if module.removeprefix("lightbus.") not in CHOOSES_TRANSPORT]
    imports = [(module, name) for module in choose_none for name in facts(module).imports]
    assert [each for each in imports if each[1].startswith("lightbus.adapters.zmq")] == []


KNOW_ADAPTERS: dict[str, set[str]] = {
    "mdns": {"cli.checks.this_host", "engine.network"},
    "dns": {"cli.checks.processes", "membership.seeds"},
    "memory": {"engine.event_backends", "engine.network", "testing.__init__", "testing.memory"},
    "nats": {"engine.event_backends"},
    # The journals are no event backend behind a port: docs/architecture/measurements.md says why.
    "sqlite": {
        *("cli.checks.kept_events", "cli.commands.events", "cli.support.local_journals", "client.process_hooks"),
        *("engine.assembly", "engine.engine", "engine.events_api", "engine.peer_api", "events.backend_places"),
        *(f"events.backends.{name}" for name in ("move_to_backend", "move_to_journal")),
        *(f"events.groups.{name}" for name in ("ack_waiters", "coordinator", "cursor_store", "delivery_requests")),
        *(f"events.groups.group_{name}" for name in ("directory", "members", "progress", "state", "store")),
        *(f"events.groups.{name}" for name in ("late_events", "redelivery", "served_journals", "starting_points")),
        *(
            f"events.publishing.{name}"
            for name in ("batcher", "batches", "hand_off", "journal_maintenance", "journal_set")
        ),
        *(f"events.publishing.{name}" for name in ("orphaned_journals", "partition_turns", "publisher", "runs")),
        "events.publishing.tick_batch",
    },
}
"""Who knows other adapters than the one behind the transport, and `host`, which has no port. It only shrinks."""


def test_adapters_are_known_to_those_who_are_named() -> None:
    """No adapter is left out of the lists."""
    adapters = {module.split(".")[2] for module in SOURCES if module.count(".") > 2 and ".adapters." in module}
    assert adapters - {"zmq", "host"} == {*KNOW_ADAPTERS}


@pytest.mark.parametrize("adapter", KNOW_ADAPTERS)
def test_fewer_know_an_adapter(adapter: str) -> None:
    """Only the listed modules import an adapter that a port could hide."""
    room = f"lightbus.adapters.{adapter}"
    others = [module for module in SOURCES if not module.startswith("lightbus.adapters.")]
    found = {
        module.removeprefix("lightbus.")
        for module in others
        if any(f"{name}.".startswith(f"{room}.") for name in facts(module).imports)
    }
    assert found - KNOW_ADAPTERS[adapter] == set()
    assert KNOW_ADAPTERS[adapter] - found == set(), "these know it no more: take them off the list"


def test_checker_sees_endpoints() -> None:
    """A text is found wherever it is, in an f-string and in bytes too; a docstring may name one."""
    source = (
        'def f(a=b"ipc://b"):\n    """Return tcp://x."""\n    return f"tcp://{a}:1", "ipc", "must be at tcp://host:1"'
    )
    assert sorted(endpoints_in(ast.parse(source))) == ["ipc://b", "must be at tcp://host:1", "tcp://"]
    names = 'f"{name}.sqlite", "*.rpc", "sqlite", "internal.peer"'
    assert sorted(endpoints_in(ast.parse(names))) == ["*.rpc", ".sqlite"]


def test_room_without_floor_is_named() -> None:
    """A new package must be given its floor, even if it imports nothing of the package."""
    with pytest.raises(AssertionError, match="lightbus/shed is on no floor"):
        violations(["os"], "lightbus.shed")


MOST = {"lines of a module": 450, "lines of a function": 45, "methods of a class": 25, "attributes of a class": 20}
"""What a reader can take in at once."""

GIANTS: dict[str, dict[str, int]] = {
    # The public methods of a bus, most of them under their names in 1.x. They are declared here, where help(), editors
    # and type checkers look for them; each passes its arguments to the part of the client that does the work. Fewer
    # methods would be fewer public names.
    "lightbus.client.bus_client.BusClient": {"methods of a class": 35},
    # The state of one call. Fifteen of the attributes are defaults of the class, of which most calls set only a few. A
    # second object for these would be needed by each call that sets one, as every call of a `def` handler does.
    "lightbus.rpc.job.Job": {"attributes of a class": 25},
}
"""What is larger, with its size and the reason. The list only shrinks, and so does each number on it."""

WITH_BASES: dict[str, int] = {
    # JournalFile opens, locks, re-creates and closes a database, whatever is in it; Journal stores and reads events.
    # If it held a JournalFile instead, it would need a method for each of these steps that only passes the call on.
    "lightbus.adapters.sqlite.journal.Journal": 38,
    # LoopSocket reads, bounds and closes any socket of an event loop. A Router adds sending to many connections, from
    # threads, too; a Dealer adds connecting, reconnecting, and frames that wait for the connection.
    "lightbus.adapters.zmq.bound_sockets.Router": 30,
    "lightbus.adapters.zmq.connecting_sockets.Dealer": 26,
    # Public methods and properties, with the names of 1.x in the base class.
    "lightbus.client.bus_client.BusClient": 39,
    "lightbus.path.BusPath": 33,
    # Each method is a procedure that any process may call.
    "lightbus.engine.events_api.EventsApi": 27,
    # The base class has a method for each of the 20 hooks of a plugin.
    "lightbus.plugins.metrics.MetricsPlugin": 27,
    "lightbus.plugins.prometheus.PrometheusPlugin": 26,
    # A queue from which several events are taken together, of several streams. In all else it is a ListenerQueue.
    "lightbus.events.listening.batch_queue.BatchQueue": 32,
}
"""Classes with more methods than `MOST`, those of their base classes in the package included. It only shrinks."""

ATTRIBUTES_WITH_BASES: dict[str, int] = {
    # JournalFile has the connections, the lock and the counts of the file; Journal has a part for each of its tables.
    "lightbus.adapters.sqlite.journal.Journal": 27,
    # LoopSocket has what reading a socket and its bounds need; these add the frames that wait to be sent.
    "lightbus.adapters.zmq.bound_sockets.Router": 22,
    "lightbus.adapters.zmq.connecting_sockets.Dealer": 26,
    # The state of a stream, with the number of events that did not arrive.
    "lightbus.core.streams.LiveStream": 21,
    "lightbus.rpc.job.Job": 25,  # without a base class: see `GIANTS`
    # The state of a ListenerQueue, with the events of batches that wait for a failed one.
    "lightbus.events.listening.batch_queue.BatchQueue": 22,
}
"""Classes with more attributes than `MOST`, those of their base classes in the package included. It only shrinks."""

SEEN_BY_TYPES_ONLY: dict[str, int] = {
    "lightbus.__init__": 11,
    "lightbus.adapters.mdns.discovery": 2,
    "lightbus.adapters.zmq.transport": 2,
    "lightbus.cli.commands.demo": 4,
    "lightbus.cli.commands.rate": 2,
    "lightbus.cli.commands.shell": 1,
    "lightbus.cli.support.logs": 1,
    "lightbus.cli.support.output": 2,
    "lightbus.client.bus_client": 1,
    "lightbus.client.lifecycle": 1,
    "lightbus.client.worker_holder": 1,
    "lightbus.config.sources": 1,
    "lightbus.engine.engine": 1,
    "lightbus.engine.node": 2,
    "lightbus.events.publishing.journal_set": 2,
    "lightbus.plugins.__init__": 2,
    "lightbus.pytest_plugin": 2,
    "lightbus.service.signature": 1,
    "lightbus.service.validating": 1,
}
"""Modules that import what they name in annotations only where types are checked, and how often. It only shrinks,
but for what a worker needs and a client shall not import (`tests/test_lightbus.py`)."""

CIRCLES: list[set[str]] = []
"""Modules that know each other in a circle, under TYPE_CHECKING too. It only shrinks."""


def sizes(tree: ast.AST, module: str, *, lines: int) -> Iterator[tuple[str, str, int]]:
    """Yield the sizes of a module and everything in it: name, kind, count."""
    yield module, "lines of a module", lines
    for node in nodes_of(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{module}.{node.name}", "lines of a function", (node.end_lineno or 0) - node.lineno + 1
        elif isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
            yield f"{module}.{node.name}", "methods of a class", len(methods)
            yield f"{module}.{node.name}", "attributes of a class", len(fields(node).union(*map(attributes, methods)))


def fields(declared: ast.ClassDef) -> set[str]:
    """Return the attributes that a class names in its body: those of a dataclass, and constants that are defaults."""
    named = [node.target for node in declared.body if isinstance(node, ast.AnnAssign)]
    defaults = [node for node in declared.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    of_all = [*named, *(target for node in defaults for target in node.targets)]
    return {node.id for node in of_all if isinstance(node, ast.Name) and not node.id.isupper()}


def attributes(method: ast.AST) -> set[str]:
    """Return the attributes that a method sets on `self`."""
    return {
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def giants() -> dict[str, dict[str, int]]:
    """Return everything that is larger than allowed."""
    found: dict[str, dict[str, int]] = {}
    for module in SOURCES:
        for name, what, count in facts(module).sizes:
            if count > MOST[what]:
                found.setdefault(name, {})[what] = count
    return found


def only_for_types(tree: ast.AST) -> int:
    """Return the number of imports of a module that run only under TYPE_CHECKING."""
    blocks = [node for node in nodes_of(tree) if isinstance(node, ast.If)]
    blocks = [node for node in blocks if "TYPE_CHECKING" in ast.dump(node.test)]
    return sum(isinstance(each, (ast.Import, ast.ImportFrom)) for block in blocks for each in ast.walk(block))


def circles(known: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other, directly or indirectly."""
    reaches = {module: reachable(module, known) for module in known}
    found: list[set[str]] = []
    for module, reached in reaches.items():
        if module in reached and not any(module in circle for circle in found):
            found.append({each for each in reached if module in reaches[each]})
    return found


def reachable(module: str, known: dict[str, set[str]]) -> set[str]:
    """Return all modules that a module knows, by way of others too."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        for each in known.get(ahead.pop(), set()) - found:
            found.add(each)
            ahead.append(each)
    return found


def knowledge() -> dict[str, set[str]]:
    """Return per module which modules of the package it imports, inside functions and under TYPE_CHECKING too."""
    known: dict[str, set[str]] = {}
    for module in SOURCES:
        own = module.removesuffix(".__init__")
        named = {name.removesuffix(".__init__") for name in facts(module).imports if name in KNOWN}
        known[own] = {name for name in named if name != own}
    return known


def test_nothing_is_too_large() -> None:
    """A module, class or function over the limit must be split."""
    found = giants()
    grown = {
        name: counts
        for name, counts in found.items()
        if any(count > GIANTS.get(name, {}).get(what, MOST[what]) for what, count in counts.items())
    }
    assert grown == {}, "cut these by what they are about"
    assert {name: counts for name, counts in GIANTS.items() if counts != found.get(name, {})} == {}, (
        "these are smaller now, or not too large any more: say so in the list"
    )


def methods(declared: ast.ClassDef) -> set[str]:
    """Return the methods that a class has in its body."""
    return {each.name for each in declared.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}


def all_attributes(declared: ast.ClassDef) -> set[str]:
    """Return the attributes that a class names in its body, or sets."""
    return fields(declared).union(*map(attributes, declared.body))


def declared_in(tree: ast.AST) -> Iterator[Declared]:
    """Yield the classes of a module."""
    foreign = {
        alias.asname or alias.name
        for node in nodes_of(tree)
        if isinstance(node, ast.ImportFrom) and not node.level
        for alias in node.names
    }
    for node in nodes_of(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
            yield Declared(
                node.name, methods(node), all_attributes(node), [base for base in bases if base not in foreign]
            )


def with_bases(declared: dict[str, list[Declared]], members: Callable[[Declared], set[str]]) -> dict[str, set[str]]:
    """Return per class its members of a kind, including those of its bases in the package."""
    own: dict[str, tuple[str, set[str], list[str]]] = {}
    for module, classes in declared.items():
        own |= {each.name: (f"{module}.{each.name}", members(each), each.bases) for each in classes}

    def all_of(name: str) -> set[str]:
        _, found, bases = own.get(name, ("", set(), []))
        return found.union(*(all_of(base) for base in bases if base != name))

    return {full: all_of(name) for name, (full, _, _) in own.items()}


def test_no_class_is_cut_by_inheritance_alone() -> None:
    """Bases count, too: a class that is too large with them is listed, with the reason."""
    declared = {module: facts(module).declared for module in SOURCES}
    for what, members, known in (
        ("methods of a class", attrgetter("methods"), WITH_BASES),
        ("attributes of a class", attrgetter("attributes"), ATTRIBUTES_WITH_BASES),
    ):
        found, most = with_bases(declared, members), MOST[what]
        large = {name: len(those) for name, those in found.items() if len(those) > most}
        assert {name: count for name, count in large.items() if count > known.get(name, most)} == {}, what
        assert large == known, f"these have fewer {what} now: say so in the list"


def test_members_of_bases_are_counted_once() -> None:
    """Those of a class with the same name in another module are not counted."""
    base = "class A:\n    def a(self): ...\n    def b(self): ..."
    source = "from .m import A\nfrom x import C\nclass B(A):\n    def b(self): ...\nclass D(C):\n    def d(self): ..."
    modules = {"m": base, "n": source, "o": "class C:\n    def c(self): ..."}
    declared = {module: [*declared_in(ast.parse(each))] for module, each in modules.items()}
    found = with_bases(declared, attrgetter("methods"))
    assert (found["n.B"], found["n.D"]) == ({"a", "b"}, {"d"})
    setting = "class E:\n    x: int\n    def a(self): self.y = 1\nclass F(E):\n    def b(self): self.y = self.z = 1"
    declared = {"m": [*declared_in(ast.parse(setting))]}
    assert with_bases(declared, attrgetter("attributes"))["m.F"] == {"x", "y", "z"}


def test_imports_for_types_become_fewer() -> None:
    """An import for annotations only is a sign of a wrong floor or a circle: their number must not grow."""
    found = {module: count for module in SOURCES if (count := facts(module).only_for_types)}
    assert {module: count for module, count in found.items() if count > SEEN_BY_TYPES_ONLY.get(module, 0)} == {}
    assert found == SEEN_BY_TYPES_ONLY, "some have fewer now: say so in the list"


def test_modules_import_without_circles() -> None:
    """Of two modules one can be read without the other."""
    found = circles(knowledge())
    assert [circle for circle in found if not any(circle <= known for known in CIRCLES)] == []
    assert [circle for circle in CIRCLES if circle not in found] == [], "these are no more: take them off the list"


NAMED_BY_THEIR_CLASS = {"Meta", "Config"}
"""Classes within a class: of an API, of a model of Django, of a plugin."""


def classes_in(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the classes and type aliases of a module."""
    yield from (node.name for node in nodes_of(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if ast.unparse(node.annotation).rpartition(".")[2] == "TypeAlias":
                yield node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if re.match(r"_?[A-Z]\w*[a-z]", name))


def test_no_two_classes_share_a_name() -> None:
    """Each name of a class or alias is unique in the package, private ones included."""
    found: dict[str, list[str]] = {}
    for module in SOURCES:
        for name in facts(module).classes:
            found.setdefault(name.removeprefix("_"), []).append(module)
    assert {name: of for name, of in found.items() if len(of) > 1 and name not in NAMED_BY_THEIR_CLASS} == {}


def test_measured_values() -> None:
    """Attributes count once, wherever they are; imports for types are seen; and circles of any length."""
    methods = "    def a(self):\n        self.x = self.y = 1\n    def b(self):\n        self.x = 2\n"
    source = f"class A:\n    MOST = 3\n    y: int\n    z = 0\n{methods}"
    assert set(sizes(ast.parse(source), "m", lines=7)) == {
        ("m", "lines of a module", 7),
        ("m.A", "methods of a class", 2),
        ("m.A", "attributes of a class", 3),
        ("m.a", "lines of a function", 2),
        ("m.b", "lines of a function", 2),
    }
    aliases = "A: TypeAlias = int\n_Back = Callable[[], None]\nC = D[0]\nLIST = list[int]\nb = list[int]\nE: int = 1"
    assert [*classes_in(ast.parse(f"class F:\n    class G: ...\n{aliases}"))] == ["F", "G", "A", "_Back"]
    assert only_for_types(ast.parse("if TYPE_CHECKING:\n    from a import b\n    import c\nimport d")) == 2
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [{"a", "b", "c"}]
