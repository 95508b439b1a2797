"""Names of Lightbus 1.x that programs use: each exists, under its old name, with its old effect."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import lightbus
from lightbus import EventMessage, create, get_bus, import_bus_module

NAMES = (
    "lightbus.api.Api",
    "lightbus.api.Event",
    "lightbus.api.ApiOptions",
    "lightbus.api.Registry",
    "lightbus.schema.Schema",
    "lightbus.schema.Parameter",
    "lightbus.schema.WildcardParameter",
    "lightbus.hooks.HookRegistry",
    "lightbus.internal_apis.LightbusStateApi",
    "lightbus.internal_apis.LightbusMetricsApi",
    "lightbus.client.BusClient",
    "lightbus.client.bus_client.BusClient",
    "lightbus.client.utilities.OnError",
    "lightbus.path.BusPath",
    "lightbus.message.RpcMessage",
    "lightbus.message.ResultMessage",
    "lightbus.message.EventMessage",
    "lightbus.exceptions.LightbusTimeout",
    "lightbus.plugins.LightbusPlugin",
    "lightbus.plugins.state.StatePlugin",
    "lightbus.plugins.metrics.MetricsPlugin",
    "lightbus.utilities.async_tools.block",
    "lightbus.utilities.django.uses_django_db",
    "lightbus.utilities.features.Feature",
    "lightbus.utilities.testing.BusMocker",
    "lightbus.utilities.testing.bus_mocker",
)

EXCEPTIONS = (
    *("LightbusException", "UnknownApi", "EventNotFound", "InvalidEventArguments", "InvalidEventListener"),
    *("InvalidParameters", "InvalidName", "InvalidSchema", "SchemaNotFound", "ValidationError", "CannotBlockHere"),
    *("LightbusTimeout", "LightbusWorkerError", "DuplicateListenerName", "ListenersAlreadyStarted"),
    *("MisconfiguredApiOptions", "InvalidApiRegistryEntry", "InvalidApiEventConfiguration", "DeformError"),
    *("FailedToImportBusModule", "NoBusFoundInBusModule", "UnexpectedConfigurationFormat", "InvalidSchedule"),
    *("BusAlreadyClosed", "LightbusServerMustStartInMainThread", "NothingToListenFor", "UnsupportedUse"),
)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_where_it_was(name: str) -> None:
    """`from lightbus.api import Api` and its like."""
    module, _, member = name.rpartition(".")
    assert getattr(importlib.import_module(module), member) is not None


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exception_is_where_it_was(name: str) -> None:
    """From `lightbus` and from `lightbus.exceptions`."""
    assert getattr(lightbus, name) is getattr(lightbus.exceptions, name)
    assert issubclass(getattr(lightbus, name), lightbus.LightbusException)


def test_keyword_of_the_bus_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`get_bus(bus_module_name=...)` and `import_bus_module(bus_module_name=...)`."""
    (tmp_path / "old_bus.py").write_text("import lightbus\nbus = lightbus.create(service_name='old')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "old_bus", raising=False)
    assert get_bus(bus_module_name="old_bus") is import_bus_module(bus_module_name="old_bus").bus


def test_methods_of_an_event() -> None:
    """`get_metadata()` and `get_kwargs()`."""
    message = EventMessage(api_name="auth", event_name="seen", kwargs={"n": 1}, version=2, id="x", native_id="y")
    metadata = {"api_name": "auth", "event_name": "seen", "id": "x", "version": 2, "native_id": "y"}
    assert (message.get_metadata(), message.get_kwargs()) == (metadata, {"n": 1})


def test_methods_of_a_client() -> None:
    """`stop_loop()` asks a worker to end; where none runs, it does nothing."""
    create(service_name="old").client.stop_loop()
