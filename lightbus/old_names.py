"""The exceptions of Lightbus 1.x that have another name here, or none: what a program is given or told instead."""

from __future__ import annotations

__all__ = ["GONE", "RENAMED", "name_today"]

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
"""Old name -> what to know instead: nothing here is raised for what it was raised for."""


def name_today(name: str) -> str:
    """
    Return the name that an exception of 1.x has here.

    Raises ImportError where it is gone: an AttributeError would lose its message in `from lightbus import ...`.
    """
    if name in GONE:
        raise ImportError(f"lightbus has no exception {name} any more. {GONE[name]} Remove it from the import.")
    if name not in RENAMED:
        raise AttributeError(f"module 'lightbus.exceptions' has no attribute '{name}'")
    return RENAMED[name]
