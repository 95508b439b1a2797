"""Forms in which programs for Lightbus 1.x are written: the table of docs/migrating.md, each row with its check."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMS", "Form", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form. `check` is run with `lightbus`, `bus` and `pytest` in sight; what it asserts is what `here` says."""

    kind: str
    old: str
    here: str
    check: str


FORMS = (
    Form(
        kind="path",
        old="`bus.auth.seen.name`, `.parent`, `.ancestors()`",
        here="the same for procedures and events; on an API (`bus.auth.name`) it is an ordinary member name",
        check="""
path = bus.auth.seen
assert (path.name, str(path.parent)) == ("seen", "auth")
assert [str(each) for each in path.ancestors()] == ["auth", ""]
assert [str(each) for each in path.ancestors(include_self=True)] == ["auth.seen", "auth", ""]
assert str(bus.auth.name) == "auth.name"
""",
    ),
    Form(
        kind="client",
        old="`await client.lazy_load_now()`",
        here="the same: plugins are loaded",
        check="""
import asyncio
asyncio.run(bus.client.lazy_load_now())
assert bus.client.service_name == "old"
""",
    ),
    Form(
        kind="client",
        old="`client.stop_loop()`",
        here="`client.request_shutdown()`; both work",
        check="bus.client.stop_loop()",
    ),
    Form(
        kind="client",
        old="`client.hook_registry.register_callback(name, fn, before_plugins)`",
        here="the same; `client.before_rpc_call(fn)` and the similar methods also work",
        check="""
def hook(): pass
bus.client.hook_registry.register_callback("on_start", hook, True)
bus.client.hook_registry.register_callback(name="on_stop", fn=hook)
assert hook in bus.client.hooks.functions("on_start") and hook in bus.client.hooks.functions("on_stop")
""",
    ),
    Form(
        kind="client",
        old="`client.plugin_registry.is_plugin_loaded(...)`",
        here="the same. Plugins come from `create(plugins=[...])` and the settings; they cannot be added to the "
        "registry",
        check="""
from lightbus.plugins.metrics import MetricsPlugin
from lightbus.plugins.state import StatePlugin
plugged = lightbus.create(service_name="old", plugins=[StatePlugin()])
registry = plugged.client.plugin_registry
assert (registry.is_plugin_loaded(StatePlugin), registry.is_plugin_loaded(MetricsPlugin)) == (True, False)
assert not hasattr(registry, "set_plugins")
plugged.client.close()
""",
    ),
    Form(
        kind="client",
        old="`client.loop`",
        here="the loop that runs in this thread; an error if none runs, because a client has no loop of its own",
        check="""
import asyncio
async def main():
    assert bus.client.loop is asyncio.get_running_loop()
asyncio.run(main())
with pytest.raises(lightbus.UnsupportedUse, match="No event loop runs in this thread"):
    bus.client.loop
""",
    ),
    Form(
        kind="client",
        old="`start_server()`, `stop_server()`, `transport_registry`, `event_client`, `error_queue` and others",
        here="an error that names the replacement",
        check="""
gone = {"start_server": "start_worker", "transport_registry": "no transports", "error_queue": "raised where they occur"}
for name, instead in gone.items():
    with pytest.raises(AttributeError, match=f"no '{name}' any more.*{instead}"):
        getattr(bus.client, name)
with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
    bus.client.nothing
""",
    ),
    Form(
        kind="client",
        old="`client.consume_rpcs(apis=[...])`",
        here="all registered APIs are served; other `apis` are an error",
        check="""
import asyncio
with pytest.raises(lightbus.UnsupportedUse, match="serves all that is registered: auth. Register those"):
    asyncio.run(bus.client.consume_rpcs(apis=[]))
""",
    ),
    Form(
        kind="message",
        old="`RpcMessage(return_path=)`",
        here="kept, without effect: a reply returns on the connection of its call",
        check="""
message = lightbus.RpcMessage(api_name="auth", procedure_name="check", kwargs={"n": 1}, return_path="abc", id="7")
assert (message.return_path, message.kwargs, message.id) == ("abc", {"n": 1}, "7")
assert lightbus.RpcMessage(api_name="auth", procedure_name="check").return_path == ""
""",
    ),
    Form(
        kind="message",
        old="`get_metadata()`, `get_kwargs()`, `from_dict(metadata, kwargs, **extra)`, `required_metadata`",
        here="the same for calls, results and events; for events they include the `native_id`",
        check="""
call = lightbus.RpcMessage(api_name="auth", procedure_name="check", kwargs={"n": 1}, id="7")
result = lightbus.ResultMessage(result=5, rpc_message_id="7", error=True, trace="line 3", id="8")
event = lightbus.EventMessage(api_name="auth", event_name="seen", kwargs={"n": 1}, version=2, id="9", native_id="j-1")
for message in (call, result, event):
    assert set(message.required_metadata) <= set(message.get_metadata())
    same = type(message).from_dict(message.get_metadata(), message.get_kwargs())
    assert (same.get_metadata(), same.get_kwargs()) == (message.get_metadata(), message.get_kwargs())
stored = lightbus.ResultMessage.from_dict({"id": "1", "rpc_message_id": "7"}, {"result": 3}, api_name="auth")
assert (stored.api_name, stored.result) == ("auth", 3)
stored = lightbus.EventMessage.from_dict({"id": "1", "api_name": "a", "event_name": "b", "version": "3"}, {})
assert stored.version == 3
""",
    ),
    Form(
        kind="client",
        old="`client.schedule(schedule=...)`, `block(coroutine=...)`",
        here="the same as `schedule_job` and `awaitable`",
        check="""
import asyncio, schedule
from lightbus.utilities.async_tools import block
@bus.client.schedule(schedule=schedule.every().day)
def daily(): pass
assert block(coroutine=asyncio.sleep(0, 5)) == 5
""",
    ),
    Form(
        kind="module",
        old="`get_bus(bus_module_name=...)`",
        here="the same",
        check="""
import sys, types
module = types.ModuleType("old_bus_of_a_table")
module.bus = bus
sys.modules[module.__name__] = module
try:
    assert lightbus.get_bus(bus_module_name=module.__name__) is bus
finally:
    del sys.modules[module.__name__]
""",
    ),
    Form(
        kind="configuration",
        old="`config.bus().log_level`",
        here="`config.bus.log_level`; both work",
        check="assert bus.client.config.bus().log_level == bus.client.config.bus.log_level",
    ),
    Form(
        kind="configuration",
        old="`Config.load_dict(...)`, `.load_file(...)`, `.load_yaml(...)`, `.load_json(...)`, `.default()`",
        here="the same, with the environment's settings; `load_config(...)` replaces them all",
        check="""
from lightbus.config import Config
import os, pathlib, tempfile
made = Config.load_dict({"bus": {"log_level": "debug"}, "service_name": "store"})
assert (made.bus().log_level, made.service_name) == ("debug", "store")
assert Config.load_yaml("bus: {log_level: debug}").bus().log_level == "debug"
assert Config.load_json('{"bus": {"log_level": "debug"}}').bus().log_level == "debug"
assert Config.default().bus().log_level == "info"
with tempfile.TemporaryDirectory() as directory:
    file = pathlib.Path(directory, "bus.yaml")
    file.write_text("bus: {log_level: debug}")
    assert Config.load_file(file_path=str(file)).bus().log_level == "debug"
    assert lightbus.load_config(from_file=str(file), service_name="store", quiet=True).bus().log_level == "debug"
other = lightbus.create(made)
assert other.client.service_name == "store"
other.client.close()
""",
    ),
    Form(
        kind="configuration",
        old="`config.plugin(name).<setting>`",
        here="the settings under `plugins.<name>`, and `enabled`; a plugin's own defaults are arguments of its "
        "`from_config`",
        check="""
written = lightbus.Config.load_dict({"plugins": {"internal_state": {"enabled": True, "ping_interval": 3}}})
assert (written.plugin("internal_state").enabled, written.plugin("internal_state").ping_interval) == (True, 3)
assert written.plugin("internal_metrics").enabled is False
""",
    ),
    Form(
        kind="configuration",
        old="`config.api()`, `config.apis()`",
        here="the section `default`, and all sections by name; `config.apis` works, too",
        check="""
config = bus.client.config
assert config.api() is config.apis()["default"] is config.apis["default"]
""",
    ),
    Form(
        kind="configuration",
        old="`load_config(from_file=, quiet=)`",
        here="`config_file`; both names work, but not together. Nothing is logged either way",
        check="""
with pytest.raises(lightbus.InvalidConfiguration, match="no configuration file none.yaml"):
    lightbus.load_config(from_file="none.yaml", quiet=True)
with pytest.raises(lightbus.InvalidConfiguration, match="Give config_file"):
    lightbus.load_config(from_file="none.yaml", config_file="other.yaml")
""",
    ),
    Form(
        kind="mock",
        old="`mockRpcCall`, `mockEventFiring`, `assertEventFired`, `assertEventNotFired`, `assertRpcCalled`, "
        "`assertRpcNotCalled`, `getEventMessages`, `getRpcMessages`, `eventNamesFired`, `rpcNamesCalled`",
        here="the same, besides `mock_rpc_call` and so on",
        check="""
from lightbus.utilities.testing import bus_mocker
with bus_mocker(bus) as mock:
    mock.mockRpcCall("auth.check", result=True)
    mock.mockEventFiring("auth.seen")
    assert bus.auth.check() is True
    bus.auth.seen.fire()
    mock.assertRpcCalled("auth.check", times=1)
    mock.assertEventFired("auth.seen", times=1)
    mock.assertRpcNotCalled("auth.other")
    mock.assertEventNotFired("auth.other")
    assert [message.procedure_name for message in mock.getRpcMessages("auth.check")] == ["check"]
    assert (mock.rpcNamesCalled, mock.eventNamesFired) == (["auth.check"], ["auth.seen"])
    assert len(mock.getEventMessages()) == 1
""",
    ),
    Form(
        kind="mock",
        old="`mockRpcCall(full_rpc_name=, result=, error=, trace=)`, `assertEventFired(full_event_name=)` and so on",
        here="the same. Other fields of a result's message (`id`, `native_id`, ...) are refused: the mock sets them",
        check="""
from lightbus.utilities.testing import bus_mocker
with bus_mocker(bus) as mock:
    mock.mockRpcCall(full_rpc_name="auth.check", result="no database", error=True, trace="line 7")
    with pytest.raises(lightbus.LightbusWorkerError, match="no database") as failure:
        bus.auth.check()
    assert failure.value.trace == "line 7"
    mock.mockRpcCall("auth.check", result=ValueError("odd"), error=True)
    with pytest.raises(lightbus.LightbusWorkerError, match="odd"):
        bus.auth.check()
    mock.mockEventFiring(full_event_name="auth.seen")
    bus.auth.seen.fire()
    mock.assertEventFired(full_event_name="auth.seen", times=1)
    mock.assertEventNotFired(full_event_name="auth.other")
    mock.assertRpcCalled(full_rpc_name="auth.check", times=2)
    mock.assertRpcNotCalled(full_rpc_name="auth.other")
    assert len(mock.getEventMessages(full_event_name="auth.seen")) == 1
    assert len(mock.getRpcMessages(full_rpc_name="auth.check")) == 2
    with pytest.raises(lightbus.UnsupportedUse, match="native_id.*It has: name, result, error, trace"):
        mock.mockRpcCall("auth.check", result=True, native_id="1")
    with pytest.raises(TypeError, match="name and full_rpc_name"):
        mock.mockRpcCall(name="auth.check", full_rpc_name="auth.check")
""",
    ),
    Form(
        kind="plugin",
        old="`StatePlugin(service_name=, process_name=)`, `MetricsPlugin(service_name=, process_name=)`",
        here="the same; the default is the client's names",
        check="""
from lightbus.plugins.metrics import MetricsPlugin
from lightbus.plugins.state import StatePlugin
StatePlugin(service_name="a", process_name="b", ping_enabled=False, ping_interval=60)
MetricsPlugin(service_name="a", process_name="b")
""",
    ),
    Form(
        kind="plugin",
        old="hooks `before_parse_args`, `receive_args`, `exception`",
        here="an error when the plugin is loaded: settings are arguments of `from_config`",
        check="""
from lightbus.plugins import LightbusPlugin
hooks = {"before_parse_args": "from_config", "receive_args": "from_config", "exception": "after_rpc_execution"}
for name, instead in hooks.items():
    plugin = type("Old", (LightbusPlugin,), {name: lambda self, **given: None})()
    with pytest.raises(lightbus.InvalidDeclaration, match=f"hook {name}.. of Lightbus 1.x.*{instead}"):
        lightbus.create(service_name="old", plugins=[plugin]).client.engine
""",
    ),
    Form(
        kind="command",
        old="`lightbus run -o FEATURES -k FEATURES -m PATH`",
        here="the same as `--only`, `--skip`, `--schema`",
        check="""
from lightbus.cli.commands.run import run
letters = {option.name: option.opts for option in run.params}
assert [letters[name][-1] for name in ("only", "skip", "schema")] == ["-o", "-k", "-m"]
""",
    ),
    Form(
        kind="exception",
        old="`NoResponseSchemaFound`, `InvalidMessage`, `UnsupportedOptionValue`, `NoApisToListenOn` and others",
        here="aliases of the exceptions that are raised for the same mistakes now: `SchemaNotFound`, `ProtocolError`, "
        "`InvalidConfiguration`, `NothingToListenFor`",
        check="""
from lightbus.exceptions import InvalidMessage, NoApisToListenOn, NoResponseSchemaFound, UnsupportedOptionValue
assert (NoResponseSchemaFound, InvalidMessage) == (lightbus.SchemaNotFound, lightbus.ProtocolError)
assert (UnsupportedOptionValue, NoApisToListenOn) == (lightbus.InvalidConfiguration, lightbus.NothingToListenFor)
""",
    ),
    Form(
        kind="exception",
        old="`TransportNotFound`, `PoolProxyError`, `SuddenDeathException` and others of transports and pools",
        here="the import is an error that names the exception to catch",
        check="""
with pytest.raises(ImportError, match="Catch PeerLost"):
    from lightbus.exceptions import SuddenDeathException
""",
    ),
)


def table() -> str:
    """Return the table as it stands in docs/migrating.md."""
    rows = "".join(f"| {form.kind} | {form.old} | {form.here} |\n" for form in FORMS)
    return f"| kind | 1.x | here |\n|---|---|---|\n{rows}"
