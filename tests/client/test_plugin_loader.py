"""The plugins of a client."""

from __future__ import annotations

from typing import Any

import pytest

import lightbus
from helpers import Door
from helpers.clients import AuthApi
from lightbus import BusPath, RpcMessage, UsageError
from lightbus.plugins import LightbusPlugin
from lightbus.plugins.log_context import LogContextPlugin
from lightbus.testing import MemoryBus


def test_plugins_given_to_create(hub: MemoryBus, door: Door) -> None:
    """The hooks of a plugin given to create() run before the user's hooks, except for `before_plugins` ones."""
    told: list[str] = []

    class Noting(LightbusPlugin):
        async def before_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> None:
            told.append(f"plugin {rpc_message.procedure_name}")

        async def on_start(self, *, client: Any) -> None:
            told.append("plugin on_start")

    bus = hub.create(service_name="plugged", plugins=[Noting()])
    bus.client.register_api(AuthApi())
    bus.client.on_start(lambda: told.append("mine"))
    bus.client.on_start(lambda: told.append("mine, first"), before_plugins=True)
    bus.client.start_in_background()
    try:
        assert door.call(bus.auth.check_password, username="sally", password="secret") is True
        assert told == ["mine, first", "plugin on_start", "mine", "plugin check_password"]
    finally:
        bus.client.close()


def test_plugins_work_without_a_worker(hub: MemoryBus, served: BusPath, door: Door) -> None:
    """A process that only calls has its plugins, too."""
    told: list[str] = []

    class Noting(LightbusPlugin):
        async def after_rpc_call(self, *, rpc_message: RpcMessage, result_message: Any, client: Any) -> None:
            told.append(rpc_message.procedure_name)

    bus = hub.create(service_name="caller", plugins=[Noting()])
    try:
        assert door.call(bus.auth.check_password, username="sally", password="secret") is True
        assert told == ["check_password"]
    finally:
        bus.client.close()


def test_program_and_settings_want_the_same_plugin(hub: MemoryBus, caplog: pytest.LogCaptureFixture) -> None:
    """The program's own plugin is used, and a log line says so: two would do everything twice."""
    own = LogContextPlugin()
    bus = hub.create({"plugins": {"log_context": {"enabled": True}}}, plugins=[own])
    bus.client.start_in_background()
    assert [each.__self__ for each in bus.client.hooks.functions("around_rpc_execution")] == [own]  # type: ignore[attr-defined]
    said = [record.getMessage() for record in caplog.records if record.name == "lightbus.plugins"]
    assert len(said) == 1
    assert "LogContextPlugin is enabled in the settings" in said[0]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([LogContextPlugin], r"takes instances, and LogContextPlugin is a class: LogContextPlugin\(\)"),
        (LogContextPlugin(), "takes a list of plugins, instances of LightbusPlugin, and not <lightbus"),
        (LogContextPlugin, "LogContextPlugin is a class"),
        (["log_context"], "and not 'log_context'. One that is installed is enabled by its name in the settings"),
        ({"log_context": {"enabled": True}}, "and not 'log_context'"),
    ],
)
def test_object_that_is_no_plugin_is_refused(given: Any, error: str) -> None:
    """It is refused by create(), with what to write instead."""
    with pytest.raises(UsageError, match=error):
        lightbus.create(plugins=given)
