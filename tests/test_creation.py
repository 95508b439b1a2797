"""How a program gets a bus: `create` with its many arguments, and importing the module that made one."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lightbus
from helpers import Door
from lightbus import (
    Api,
    BusClient,
    BusPath,
    FailedToImportBusModule,
    Feature,
    InvalidConfiguration,
    NoBusFoundInBusModule,
    configure_logging,
    create,
    creation,
    get_bus,
    import_bus_module,
)
from lightbus.adapters.memory.discovery import NoDiscovery
from lightbus.config.settings import NetworkSettings
from lightbus.testing import MemoryDiscovery, MemoryHub, MemoryNetwork, MemoryTransport


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty working directory; modules imported from there are forgotten at the end."""
    directory = tmp_path / "orders"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = {*sys.modules}
    yield directory
    for name in {*sys.modules} - known:
        del sys.modules[name]


# create()


def test_settings_from_everywhere(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`config` takes a mapping, a Config, or a path; `config_file` a path with a mapping on top."""
    (directory / "bus.yaml").write_text("service_name: from-file\nbus: {log_level: debug}")
    (directory / "bus.json").write_text(json.dumps({"service_name": "from-json"}))
    assert create({"service_name": "shop"}).client.config.service_name == "shop"
    assert create("bus.yaml").client.config.service_name == "from-file"
    assert create(directory / "bus.yaml").client.config.bus.log_level == "debug"
    assert create(config_file="bus.json").client.config.service_name == "from-json"
    both = create({"service_name": "on-top"}, config_file="bus.yaml").client.config
    assert (both.service_name, both.bus.log_level) == ("on-top", "debug")
    assert create(both).client.config.service_name == "on-top"
    assert create(both, service_name="argument").client.config.service_name == "argument"
    monkeypatch.setenv("LIGHTBUS_CONFIG", "bus.yaml")
    assert create().client.config.service_name == "from-file"


def test_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of the command line override the arguments of create()."""
    monkeypatch.setitem(creation.overrides, "service_name", "command-line")
    assert create(service_name="argument").client.config.service_name == "command-line"


def test_wrong_setting_is_refused_with_its_origin() -> None:
    """An invalid setting is refused when the bus is made, with its name and origin."""
    with pytest.raises(InvalidConfiguration, match=r"rpc_timeout.*the config argument"):
        create({"apis": {"default": {"rpc_timeout": "soon"}}})


def test_features_are_members_or_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`features` is honoured, as members or names; without it the environment's count."""
    assert create(features=[Feature.RPCS]).client.features == (Feature.RPCS,)
    assert create(features=["events", "tasks"]).client.features == (Feature.EVENTS, Feature.TASKS)
    assert create(features=iter(["events"])).client.features == (Feature.EVENTS,)
    assert create(features=[]).client.features == ()
    assert create().client.features == tuple(lightbus.ALL_FEATURES)
    monkeypatch.setenv("LIGHTBUS_FEATURES", "tasks")
    assert create().client.features == (Feature.TASKS,)


def test_classes_of_ones_own() -> None:
    """`client_class` and `node_class` are used, for every path on."""

    class MyClient(BusClient):
        pass

    class MyPath(BusPath):
        pass

    bus = create(client_class=MyClient, node_class=MyPath)
    assert type(bus.client) is MyClient
    assert type(bus) is type(bus.auth) is type(bus.auth.check) is MyPath


def test_arguments_of_1x_are_accepted() -> None:
    """`flask` and `plugins` are accepted; the former has no effect."""
    assert isinstance(create(flask=True, plugins=[]), BusPath)


def test_service_name_is_the_directorys(directory: Path) -> None:
    """Without a service name it is the directory's that holds the module, the same for a worker and for a script."""
    (directory / "bus.py").write_text("import lightbus\nbus = lightbus.create()")
    (directory / "script.py").write_text("from bus import bus\nname = bus.client.service_name\nbus.client.close()")
    assert import_bus_module().bus.client.config.service_name == "orders"
    script: Any = import_bus_module("script")
    assert script.name == "orders"


# Importing the bus module


def test_module_by_name(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is the named one, else that of LIGHTBUS_MODULE, else `bus`; the working directory is searched."""
    for name in ("bus", "other"):
        (directory / f"{name}.py").write_text("import lightbus\nbus = lightbus.create()")
    (directory / "package").mkdir()
    (directory / "package" / "__init__.py").write_text("")
    (directory / "package" / "bus.py").write_text("import lightbus\nbus = lightbus.create()")
    assert import_bus_module().__name__ == "bus"
    assert import_bus_module("other").__name__ == "other"
    assert get_bus("package.bus").client.config.service_name == "package"
    monkeypatch.setenv("LIGHTBUS_MODULE", "other")
    assert import_bus_module().__name__ == "other"
    assert get_bus() is get_bus("other")


@pytest.mark.parametrize(
    ("code", "cause", "text"),
    [
        ("import not_installed", ModuleNotFoundError, "imports 'not_installed', which is not installed here"),
        ("1 / 0", ZeroDivisionError, r"raised ZeroDivisionError .*: division by zero\. The traceback shows where"),
        ("def broken(:", SyntaxError, "raised SyntaxError"),
    ],
)
def test_module_that_cannot_be_imported(directory: Path, code: str, cause: type[Exception], text: str) -> None:
    """The error describes the failure, and has the module's exception as its cause."""
    (directory / "bus.py").write_text(code)
    with pytest.raises(FailedToImportBusModule, match=text) as caught:
        import_bus_module()
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.bus", "bus.py"])
def test_missing_module_is_refused(directory: Path, name: str) -> None:
    """The error names the searched directory, and what to give instead."""
    with pytest.raises(
        FailedToImportBusModule, match=rf"There is no module '{name}' in .*orders.*--bus or LIGHTBUS_MO"
    ):
        import_bus_module(name)


def test_get_bus_of_a_module() -> None:
    """The bus is the attribute `bus`, else the only BusPath; several or none are refused with the line to write."""
    module: Any = ModuleType("shop")
    with pytest.raises(NoBusFoundInBusModule, match=r"'shop' has no `bus`.*bus = lightbus\.create\(\)"):
        get_bus(module)
    module.my_bus = create()
    assert get_bus(module) is module.my_bus
    module.another = create()
    with pytest.raises(NoBusFoundInBusModule):
        get_bus(module)
    module.bus = create()
    assert get_bus(module) is module.bus
    module.bus = "no bus"
    with pytest.raises(NoBusFoundInBusModule):
        get_bus(module)


# Logging


def test_configure_logging_writes_each_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages go to the terminal once, from the level on; a second call replaces the first, and no other handler."""
    root = logging.getLogger("lightbus")
    before = (root.handlers[:], root.level, root.propagate)
    try:
        root.addHandler(theirs := logging.NullHandler())
        configure_logging("debug")
        configure_logging("warning")
        logging.getLogger("lightbus.test").info("not shown")
        assert theirs in root.handlers
        logging.getLogger("lightbus.test").warning("shown")
    finally:
        root.handlers[:], root.propagate = before[0], before[2]
        root.setLevel(before[1])
    assert capsys.readouterr().err.count("shown") == 1


# Discovery and transport of one's own


class ClockApi(Api):
    class Meta:
        name = "clock"

    def read(self) -> int:
        return 12


def test_transport_and_discovery_of_ones_own(door: Door) -> None:
    """Each is made with the name of the bus, the transport with the settings of the network too, and used for all."""
    hub, network, given = MemoryHub(), MemoryNetwork(), list[Any]()

    def transport(bus: str, settings: NetworkSettings) -> MemoryTransport:
        given.append((bus, settings.max_message_size))
        return MemoryTransport(network, max_message_size=settings.max_message_size)

    own: dict[str, Any] = {"discovery": lambda bus: MemoryDiscovery(bus, hub), "transport": transport}
    config = {"bus": {"name": "own"}, "network": {"max_message_size": 4096}}
    worker, caller = (create(config, service_name=name, **own) for name in ("clock", "caller"))
    assert given == []  # nothing is made before the first use
    worker.client.register_api(ClockApi())
    worker.client.start_in_background()
    try:
        assert door.call(caller.clock.read) == 12
        (peer,) = caller.client.engine.snapshot.by_api["clock"]
        assert peer.endpoint.startswith("memory:")
        assert given == [("own", 4096)] * 2
    finally:
        caller.client.close()
        worker.client.close()


@pytest.mark.parametrize("name", ["discovery", "transport"])
def test_what_makes_one_is_wanted(name: str) -> None:
    """One that is made already is refused: a process may need several."""
    made: Any = {"discovery": NoDiscovery(), "transport": MemoryTransport(MemoryNetwork())}[name]
    with pytest.raises(
        InvalidConfiguration, match=f"makes a {name}, such as its class, and not an? {type(made).__name__}: "
    ):
        create(**{name: made})
    with pytest.raises(InvalidConfiguration, match="and not an object: "):
        create(**{name: object()})
