"""Exceptions and modules of Lightbus 1.x that were renamed or removed, and the errors that say what to use now."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["GONE", "GONE_MODULES", "RENAMED", "RemovedModules", "name_today"]

RENAMED = {
    "AsyncFunctionOrMethodRequired": "InvalidDeclaration",
    "InvalidApiForSchemaCreation": "InvalidSchema",
    "InvalidBusPathConfiguration": "InvalidName",
    "InvalidMessage": "ProtocolError",
    "InvalidPlugins": "InvalidConfiguration",
    "MustNotRunInBusThread": "CannotBlockHere",
    "MustRunInBusThread": "CannotBlockHere",
    "NoApisSpecified": "NothingToListenFor",
    "NoApisToListenOn": "NothingToListenFor",
    "NoResponseSchemaFound": "SchemaNotFound",
    "OnlyAvailableOnRootNode": "InvalidName",
    "RemoteSchemasNotLoaded": "SchemaNotFound",
    "UnsupportedOptionValue": "InvalidConfiguration",
}
"""Old name -> the class that is raised for the same mistake."""

_NO_TRANSPORTS = "There are no transports to choose: peers that do not answer raise NotReachable or TransportError."
_NO_POOL = "There is no pool of connections; what goes wrong with a connection is a TransportError."

GONE = {
    "ApisMustUseSameTransport": _NO_TRANSPORTS,
    "CannotProxyPrivateMethod": _NO_POOL,
    "CannotProxyProperty": _NO_POOL,
    "CannotProxySynchronousMethod": _NO_POOL,
    "CannotShrinkEmptyPool": _NO_POOL,
    "DatabaseConnectionRequired": "A store of events that does not work raises EventBackendError.",
    "DuplicateMessage": "An event that is fired again under its id is kept once, without an error.",
    "InvalidSerializerConfiguration": "There are no serializers to choose.",
    "LightbusExit": "A worker is ended by bus.client.request_shutdown().",
    "NoTransportConfigured": _NO_TRANSPORTS,
    "PluginHookNotFound": "Plugins have the hooks of lightbus.plugins.LightbusPlugin.",
    "PluginsNotLoaded": "Plugins are loaded when the bus is first used.",
    "PoolProxyError": _NO_POOL,
    "SuddenDeathException": "Catch PeerLost: the peer went away while it executed the call.",
    "TooManyTransportsForApi": _NO_TRANSPORTS,
    "TransportIsClosed": "Catch BusAlreadyClosed.",
    "TransportNotFound": _NO_TRANSPORTS,
    "TransportPoolIsClosed": "Catch BusAlreadyClosed.",
    "TransportsNotInstalled": _NO_TRANSPORTS,
}
"""Removed name -> what to do instead: no exception has its meaning any more."""


def name_today(name: str) -> str:
    """
    Return the present name of an exception of 1.x.

    Raises ImportError where it was removed: an AttributeError would lose its message in `from lightbus import ...`.
    """
    if name in GONE:
        raise ImportError(f"lightbus has no exception {name} any more. {GONE[name]} Remove it from the import.")
    if name not in RENAMED:
        raise AttributeError(f"module 'lightbus.exceptions' has no attribute '{name}'")
    return RENAMED[name]


_CAST = "Values are cast, and made plain, by the bus itself (docs/types.md)."

GONE_MODULES = {
    "lightbus.bus": "Import BusPath from lightbus, and make one with lightbus.create().",
    "lightbus.commands": "Run commands by lightbus.cli.main(), or `python -m lightbus`.",
    "lightbus.log": "Use lightbus.configure_logging(), or lightbus.json_logs.JsonFormatter.",
    "lightbus.serializers": "There are no serializers to choose.",
    "lightbus.transports": f"{_NO_TRANSPORTS} How to bring one of your own is in docs/ports.md.",
    "lightbus.utilities.casting": _CAST,
    "lightbus.utilities.deforming": _CAST,
}
"""Removed module of 1.x -> what to use instead."""


class RemovedModules:
    """The last finder of `sys.meta_path`: raises an error that says what to use instead of a removed module of 1.x."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Raise ModuleNotFoundError, with the replacement, for a removed module."""
        if name in GONE_MODULES:
            raise ModuleNotFoundError(f"There is no {name} any more. {GONE_MODULES[name]}", name=name)
