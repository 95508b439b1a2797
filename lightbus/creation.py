"""How a program gets a bus: make one, or import the module that made it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from .client import BusClient
from .config import ALL_FEATURES, Config, Feature, load_config
from .engine.engine import Engine
from .exceptions import FailedToImportBusModule, InvalidConfiguration, NoBusFoundInBusModule
from .importing import importing
from .keywords import unknown_keywords_raise
from .logs import configure_logging
from .path import BusPath
from .ports.discovery import DiscoveryFactory
from .ports.transport import TransportFactory

__all__ = ["configure_logging", "create", "get_bus", "import_bus_module", "overrides"]

overrides: dict[str, Any] = {}
"""Settings of the command line: they win over the arguments of `create()` in the bus module it imports."""

overriding_file: list[str] = []
"""The configuration file of the command line, where there is one: it takes the place of the one `create()` names."""

DEFAULT_MODULE = "bus"


@unknown_keywords_raise(InvalidConfiguration)
def create(
    config: Mapping[str, Any] | Config | str | os.PathLike[str] | None = None,
    *,
    config_file: str | os.PathLike[str] | None = None,
    service_name: str | None = None,
    process_name: str | None = None,
    features: Iterable[Feature | str] = ALL_FEATURES,
    client_class: type[BusClient] = BusClient,
    node_class: type[BusPath] = BusPath,
    plugins: Sequence[Any] | None = None,
    discovery: DiscoveryFactory | None = None,
    transport: TransportFactory | None = None,
    flask: bool = False,
) -> BusPath:
    """
    Return a bus. It opens nothing: no thread, no socket, no file, before the first use.

    Args:
        config: settings as a mapping, a Config, or the path or https URL of a file.
        config_file: the path or URL of a file, with `config` as a mapping on top.
        service_name: processes of one service share their listeners; the name of the calling module's directory
            where nothing else is said.
        process_name: tells the processes of a service apart. Both may have placeholders: `{hostname} {pid} {random4}
            {random8} {random16} {friendly}`.
        features: what a worker does: rpcs, events, tasks.
        client_class, node_class: subclasses of BusClient and BusPath to use.
        plugins: instances of LightbusPlugin, besides those that the settings enable.
        discovery: makes another discovery than the settings name, given the name of the bus (docs/ports.md).
        transport: makes another transport than ZeroMQ's, given the name of the bus and the settings `network`.
        flask: kept from upstream Lightbus. There is nothing left to do for it.

    Raises:
        InvalidConfiguration: a setting cannot be used; the message names it and where it was written.

    """
    module_file = sys._getframe(2).f_globals.get("__file__")
    settings = _settings(config, config_file, features, service_name, process_name, module_file)
    return node_class(client_class(settings, plugins=plugins, **_engine_of(discovery, transport)))


def _settings(
    config: Mapping[str, Any] | Config | str | os.PathLike[str] | None,
    config_file: str | os.PathLike[str] | None,
    features: Iterable[Feature | str],
    service_name: str | None,
    process_name: str | None,
    module_file: str | None,
) -> Config:
    if overriding_file:
        config, config_file = config if isinstance(config, Mapping) else None, overriding_file[-1]
    named = features if isinstance(features, str) else tuple(features)  # once: it may be a generator
    return load_config(
        config,
        config_file=config_file,
        service_name=service_name,
        process_name=process_name,
        features=None if named == ALL_FEATURES else named,
        overrides=overrides,
        module_file=module_file,
    )


def _engine_of(discovery: DiscoveryFactory | None, transport: TransportFactory | None) -> dict[str, Any]:
    """Return what a client is given to make its engine; nothing where the settings say it all."""
    if discovery is None and transport is None:
        return {}
    _check_factories(discovery=discovery, transport=transport)
    return {"make_engine": partial(Engine, discovery=discovery, transport=transport)}


def _check_factories(**factories: Any) -> None:
    for name, factory in factories.items():
        if factory is not None and not callable(factory):
            raise InvalidConfiguration(
                f"create({name}=...) takes what makes a {name}, as its class, and not a {type(factory).__name__}: a "
                "process may need several"
            )


def import_bus_module(name: str | None = None, *, bus_module_name: str | None = None) -> ModuleType:
    """
    Import the bus module: `name` (`bus_module_name` in 1.x), else `LIGHTBUS_MODULE`, else `bus`.

    The working directory is looked in, too.

    Raises FailedToImportBusModule, with the module's own exception as its cause.
    """
    name = name or bus_module_name or os.environ.get("LIGHTBUS_MODULE") or DEFAULT_MODULE
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        with importing(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise FailedToImportBusModule(
                f"There is no module '{name}' in {directory} or on the Python path. Run this where your bus.py is, "
                "or name the module with --bus or LIGHTBUS_MODULE (a module, as 'my_service.bus', not a file)."
            ) from error
        raise FailedToImportBusModule(
            f"The bus module '{name}' was found, but it imports '{error.name}', which is not installed here. "
            "Install it into the environment that runs lightbus."
        ) from error
    except Exception as error:
        raise FailedToImportBusModule(
            f"The bus module '{name}' was found, but raised {type(error).__name__} when it was imported: "
            f"{str(error).rstrip('.')}. The traceback shows where."
        ) from error


def get_bus(module: ModuleType | str | None = None, *, bus_module_name: str | None = None) -> BusPath:
    """
    Return the bus that a bus module (in 1.x `bus_module_name`) made: `bus`, or else the only BusPath in it.

    Raises NoBusFoundInBusModule.
    """
    module = module or bus_module_name
    found = module if isinstance(module, ModuleType) else import_bus_module(module)
    bus = getattr(found, "bus", None)
    if isinstance(bus, BusPath):
        return bus
    others = [value for value in vars(found).values() if isinstance(value, BusPath)]
    if len(others) == 1:
        return others[0]
    raise NoBusFoundInBusModule(
        f"The module '{found.__name__}' has no `bus` at its top level. Write there: bus = lightbus.create()"
    )
