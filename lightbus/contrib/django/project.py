"""The bus module of a project, and its bus with the hooks for Django's database connections."""

from __future__ import annotations

import os

from django.apps import apps
from django.conf import settings

from ... import creation
from ...client import BusClient
from ...path import BusPath
from ...plugins import LightbusPlugin, register_plugin
from .plugin import DjangoPlugin

__all__ = ["connect", "get_bus", "module_name"]


def module_name() -> str | None:
    """Return the project's bus module: the setting LIGHTBUS_MODULE, else the environment variable, else None."""
    return getattr(settings, "LIGHTBUS_MODULE", None) or os.environ.get("LIGHTBUS_MODULE") or None


def get_bus() -> BusPath:
    """Return the bus of the project's bus module. Raises FailedToImportBusModule and NoBusFoundInBusModule."""
    bus = creation.get_bus(module_name())
    connect(bus.client)
    return bus


def connect(client: BusClient) -> None:
    """
    Add the hooks that manage database connections around handlers, and the relays of the outbox, to a client.

    Calling it again has no effect.
    """
    hooked = client.hooks.functions("around_rpc_execution")
    if not any(isinstance(getattr(each, "__self__", None), DjangoPlugin) for each in hooked):
        plugins: list[LightbusPlugin] = [DjangoPlugin()]
        if apps.is_installed("lightbus.contrib.django.outbox"):
            from .outbox.relays import relays

            plugins += relays()
        for plugin in plugins:
            register_plugin(client.hooks, plugin)
