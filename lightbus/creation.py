"""How a program gets a bus: create one, or import the module that creates it."""

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
from .phrases import class_name, with_article
from .ports.discovery import DiscoveryFactory
from .ports.transport import TransportFactory

__all__ = ["configure_logging", "create", "get_bus", "import_bus_module", "overrides"]

overrides: dict[str, Any] = {}
"""Settings of the command line: they take precedence over the arguments of `create()` in the bus module."""

overriding_file: list[str] = []
"""The configuration file of the command line, if any: it replaces the one that `create()` names."""

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
    Return a bus. It opens no thread, socket or file before its first use.

    Args:
        config: settings as a mapping, a Config, or the path or https URL of a file.
        config_file: the path or URL of a file, with `config` as a mapping on top.
        service_name: the name of the service, whose processes share their listeners; by default the name of the
            calling module's directory.
        process_name: distinguishes the processes of a service. Both may have placeholders: `{hostname} {pid}
            {random4} {random8} {random16} {friendly}`.
        features: what a worker does: rpcs, events, tasks.
        client_class, node_class: subclasses of BusClient and BusPath to use.
        plugins: instances of LightbusPlugin, in addition to those that the settings enable.
        discovery: called with the name of the bus, makes the discovery to use instead of the one in the settings
            (docs/ports.md).
        transport: called with the name of the bus and the settings `network`, makes the transport to use instead of
            ZeroMQ's.
        flask: accepted as in Lightbus 1.x, without effect.

    Raises:
        InvalidConfiguration: a setting has an invalid value; the message names the setting and its source.

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
    named = features if isinstance(features, str) else tuple(features)  # iterated once: it may be a generator
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
    """Return the arguments by which a client makes its engine; none where the settings suffice."""
    if discovery is None and transport is None:
        return {}
    _check_factories(discovery=discovery, transport=transport)
    return {"make_engine": partial(Engine, discovery=discovery, transport=transport)}


def _check_factories(**factories: Any) -> None:
    for name, factory in factories.items():
        if factory is not None and not callable(factory):
            raise InvalidConfiguration(
                f"create({name}=...) takes a callable that makes a {name}, such as its class, and not "
                f"{with_article(class_name(factory))}: a process may need several."
            )


def import_bus_module(name: str | None = None, *, bus_module_name: str | None = None) -> ModuleType:
    """
    Import the bus module: `name` (`bus_module_name` in 1.x), else `LIGHTBUS_MODULE`, else `bus`.

    The working directory is searched, too.

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
