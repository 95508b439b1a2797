"""
Lightbus: calls and events between Python services on a network, peer to peer, without a broker.

A public name is imported when it is first used, so that `import lightbus` and `lightbus --help` are quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .old_names import GONE, RENAMED, RemovedModules

if TYPE_CHECKING:
    from .client import BusClient
    from .config import ALL_FEATURES, Config, Feature, load_config
    from .creation import configure_logging, create, get_bus, import_bus_module
    from .deadline import Deadline
    from .exceptions import (
        BusAlreadyClosed,
        CannotBlockHere,
        DeformError,
        DuplicateListenerName,
        EventBackendError,
        EventBackendUnreachable,
        EventNotFound,
        FailedToImportBusModule,
        InvalidApiEventConfiguration,
        InvalidApiRegistryEntry,
        InvalidArguments,
        InvalidConfiguration,
        InvalidDeclaration,
        InvalidEventArguments,
        InvalidEventListener,
        InvalidName,
        InvalidParameters,
        InvalidSchedule,
        InvalidSchema,
        JournalError,
        LightbusException,
        LightbusServerMustStartInMainThread,
        LightbusShutdownInProgress,
        LightbusTimeout,
        LightbusWorkerError,
        ListenersAlreadyStarted,
        MisconfiguredApiOptions,
        NoBusFoundInBusModule,
        NothingToListenFor,
        NotReachable,
        PayloadTooLarge,
        PeerBusy,
        PeerLost,
        PeerRefused,
        PeerUnreachable,
        ProtocolError,
        SchemaError,
        SchemaNotFound,
        TransportError,
        UnexpectedConfigurationFormat,
        UnknownApi,
        UnknownListener,
        UnknownProcedure,
        UnsupportedUse,
        UsageError,
        ValidationError,
    )
    from .listener import BatchFailed, OnError
    from .message import EventMessage, Message, ResultMessage, RpcMessage
    from .path import BusPath
    from .service.api import Api, Event, Parameter, WildcardParameter
    from .service.schema import Schema
    from .tracing import current_trace

__all__ = [
    "ALL_FEATURES",
    "Api",
    "BatchFailed",
    "BusAlreadyClosed",
    "BusClient",
    "BusPath",
    "CannotBlockHere",
    "Config",
    "Deadline",
    "DeformError",
    "DuplicateListenerName",
    "Event",
    "EventBackendError",
    "EventBackendUnreachable",
    "EventMessage",
    "EventNotFound",
    "FailedToImportBusModule",
    "Feature",
    "InvalidApiEventConfiguration",
    "InvalidApiRegistryEntry",
    "InvalidArguments",
    "InvalidConfiguration",
    "InvalidDeclaration",
    "InvalidEventArguments",
    "InvalidEventListener",
    "InvalidName",
    "InvalidParameters",
    "InvalidSchedule",
    "InvalidSchema",
    "JournalError",
    "LightbusException",
    "LightbusServerMustStartInMainThread",
    "LightbusShutdownInProgress",
    "LightbusTimeout",
    "LightbusWorkerError",
    "ListenersAlreadyStarted",
    "Message",
    "MisconfiguredApiOptions",
    "NoBusFoundInBusModule",
    "NotReachable",
    "NothingToListenFor",
    "OnError",
    "Parameter",
    "PayloadTooLarge",
    "PeerBusy",
    "PeerLost",
    "PeerRefused",
    "PeerUnreachable",
    "ProtocolError",
    "ResultMessage",
    "RpcMessage",
    "Schema",
    "SchemaError",
    "SchemaNotFound",
    "TransportError",
    "UnexpectedConfigurationFormat",
    "UnknownApi",
    "UnknownListener",
    "UnknownProcedure",
    "UnsupportedUse",
    "UsageError",
    "ValidationError",
    "WildcardParameter",
    "configure_logging",
    "create",
    "current_trace",
    "get_bus",
    "import_bus_module",
    "load_config",
]

if RemovedModules not in sys.meta_path:
    sys.meta_path.append(RemovedModules)  # the last finder: Python asks it for modules that no other finder has

_HOMES = {
    "client": {"BusClient"},
    "config": {"ALL_FEATURES", "Config", "Feature", "load_config"},
    "creation": {"configure_logging", "create", "get_bus", "import_bus_module"},
    "deadline": {"Deadline"},
    "message": {"EventMessage", "Message", "ResultMessage", "RpcMessage"},
    "path": {"BusPath"},
    "listener": {"BatchFailed", "OnError"},
    "service.api": {"Api", "Event", "Parameter", "WildcardParameter"},
    "service.schema": {"Schema"},
    "tracing": {"current_trace"},
}
"""Module -> the public names that it has; the others are exceptions."""

_ROOMS = {"client", "config", "creation", "exceptions", "message", "path", "plugins", "testing", "tracing", "utilities"}
"""Submodules that can be used as attributes (`lightbus.exceptions`) without importing them."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # with it, a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return import_module(f".{name}", __name__)
        if name in RENAMED or name in GONE:
            return getattr(import_module(".exceptions", __name__), name)
        if name not in __all__:
            raise AttributeError(f"module 'lightbus' has no attribute '{name}'")
        home = next((module for module, names in _HOMES.items() if name in names), "exceptions")
        value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
        return value
