"""Every public form as users write it, for `mypy --strict`. It is checked and never run."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import schedule

import lightbus
from lightbus import (
    ALL_FEATURES,
    Api,
    BusClient,
    BusPath,
    Config,
    Event,
    EventMessage,
    Feature,
    LightbusException,
    LightbusTimeout,
    LightbusWorkerError,
    Message,
    OnError,
    Parameter,
    ResultMessage,
    RpcMessage,
    Schema,
    WildcardParameter,
    configure_logging,
    create,
    get_bus,
    import_bus_module,
    load_config,
)
from lightbus.plugins import LightbusPlugin
from lightbus.plugins.metrics import MetricsPlugin
from lightbus.plugins.state import StatePlugin
from lightbus.testing import BusMock, MemoryBus, NotMocked, bus_mocker, memory_bus
from lightbus.utilities.async_tools import block
from lightbus.utilities.django import uses_django_db
from lightbus.utilities.features import Feature as UpstreamFeature
from lightbus.utilities.testing import BusMocker as UpstreamBusMocker

# --- an API -----------------------------------------------------------------------------------------


class AuthApi(Api):
    """Procedures and events."""

    user_registered = Event(["username", Parameter("email", str), Parameter("age", int, default=0)])
    logged_out = Event()
    position = Event(
        parameters=[Parameter("device", str), WildcardParameter()], key="device", delivery="best_effort", version=2
    )

    class Meta:
        name = "auth"
        internal = False
        version = 3

    def check_password(self, user: str, password: str) -> bool:
        return password == "secret"

    async def last_seen(self, user: str) -> datetime | None:
        return None


# --- making a bus -----------------------------------------------------------------------------------


class MyClient(BusClient):
    """A client of one's own."""


class MyPath(BusPath):
    """A path of one's own."""


bus = lightbus.create()
assert_type(bus, BusPath)

create({"service_name": "auth", "apis": {"auth": {"rpc_timeout": 3}}})
create("lightbus.yaml")
create(Path("lightbus.toml"))
create(load_config("https://example.com/lightbus.yaml"))
create(
    config_file="lightbus.yaml",
    service_name="auth",
    process_name="{hostname}-{pid}",
    features=[Feature.RPCS, "events"],
    client_class=MyClient,
    node_class=MyPath,
    plugins=[StatePlugin(ping_interval=30.0), MetricsPlugin()],
    flask=True,
)
create(features=ALL_FEATURES)

config: Config = load_config({"service_name": "auth"}, config_file="lightbus.yaml", process_name="{friendly}")
assert_type(get_bus(), BusPath)
assert_type(get_bus("my_service.bus"), BusPath)
assert_type(get_bus(import_bus_module()), BusPath)
import_bus_module("my_service.bus")
configure_logging()
configure_logging(log_level="debug")
UpstreamFeature.TASKS.value.upper()

# --- calling and firing -----------------------------------------------------------------------------

is_valid: bool = bus.auth.check_password(user="admin", password="secret")
is_valid = bus.auth.check_password.call(user="admin", password="secret", bus_options={"timeout": 3})
bus.auth.user_registered(user="sally", email="sally@example.com")
assert_type(bus.auth.user_registered.fire(username="sally", email="s@example.com"), EventMessage)
bus.auth.user_registered.fire(username="sally", bus_options={"timeout": 0.5})
bus.company.department.auth.check_password(user="admin", password="secret")


async def on_a_loop() -> None:
    """Do the same with await."""
    result: bool = await bus.auth.check_password.call_async(user="admin", password="x", bus_options={"timeout": 3})
    event = await bus.auth.user_registered.fire_async(username="sally", email="s@example.com")
    assert_type(event, EventMessage)
    await asyncio.gather(*(bus.auth.check_password.call_async(user=name, password="x") for name in ("a", "b")))
    await bus.client.call_rpc_remote("auth", "check_password", {"user": "admin"}, {"timeout": 1.0})
    assert_type(await bus.client.fire_event("auth", "user_registered", {"username": str(result)}), EventMessage)


def with_errors() -> None:
    """Tell errors apart."""
    try:
        bus.auth.check_password(user="admin", password="secret")
    except LightbusWorkerError as error:
        print(error.remote_type, error.remote_args, error.trace, error.peer)
    except (lightbus.UnknownApi, lightbus.UnknownProcedure, lightbus.PeerUnreachable, lightbus.PeerBusy) as error:
        print(error)
    except (lightbus.InvalidParameters, lightbus.InvalidEventArguments, lightbus.EventNotFound):
        raise
    except (TimeoutError, LightbusTimeout, lightbus.PeerLost, lightbus.CannotBlockHere):
        pass
    except LightbusException as error:
        sys.exit(str(error))


# --- listening --------------------------------------------------------------------------------------


def greet(event_message: EventMessage, username: str, email: str = "") -> None:
    """The message first, then the arguments."""
    print(event_message.canonical_name, username, email)


async def greet_async(event_message: EventMessage, **kwargs: Any) -> None:
    """On the loop."""


def only_arguments(username: str, email: str) -> None:
    """The arguments by name."""


bus.auth.user_registered.listen(greet)
bus.auth.user_registered.listen(greet_async, listener_name="greeter", bus_options={"since": "0"})
bus.auth.user_registered.listen(only_arguments, listener_name="mailer", on_error=OnError.RETRY)
bus.client.listen_for_event("auth", "*", greet_async, listener_name="all", on_error=OnError.ACKNOWLEDGE_AND_LOG)
bus.client.listen_for_events(
    [("auth", "user_registered"), ("auth", "logged_out")],
    lambda event_message: None,
    listener_name="both",
    options={"since": "0"},
    on_error=OnError.SHUTDOWN,
)

# --- paths and schemas ------------------------------------------------------------------------------

assert_type(bus.auth.check_password.api_name, str)
assert_type(bus.auth.check_password.fully_qualified_name, str)
assert_type(bus.auth.check_password.parameter_schema, dict[str, Any])
assert_type(bus.auth.check_password.response_schema, dict[str, Any] | None)
bus.auth.check_password.validate_parameters({"user": "admin"})
bus.auth.check_password.validate_response(True)
assert_type(dir(bus.auth), list[str])

schema: Schema = bus.schema
schema.load_local("schema.json")
schema.load_local(Path("schemas"))
schema.save_local(sys.stdout)
assert_type(schema.api_names, list[str])
assert_type(schema.rpcs, list[tuple[str, str]])
assert_type(schema.events, list[tuple[str, str]])

# --- the client -------------------------------------------------------------------------------------

client = bus.client
assert_type(client, BusClient)
client.register_api(AuthApi())
client.api_registry.add(AuthApi())
assert_type(client.api_registry.get("auth"), Api)
client.api_registry.remove("auth")
names: list[str] = client.api_registry.names()
apis: list[Api] = client.api_registry.public() + client.api_registry.internal() + client.api_registry.all()
client.wait_for_apis("auth", "customers", timeout=10)
client.set_features({Feature.RPCS, Feature.EVENTS})
client.set_features(["rpcs"])
assert_type(client.service_name, str)
assert_type(client.process_name, str)


@bus.client.on_start
def bare() -> None:
    """A hook without arguments."""


@bus.client.on_start()
async def with_client(client: BusClient) -> None:
    """A hook with the client."""


@bus.client.before_rpc_call(before_plugins=True)
def before_call(rpc_message: RpcMessage, **kwargs: Any) -> None:
    """A hook that wants to come first."""


@bus.client.after_rpc_call
def after_call(rpc_message: RpcMessage, result_message: ResultMessage) -> None:
    """A hook with a result."""
    print(rpc_message.procedure_name, rpc_message.kwargs, result_message.result, result_message.error)


@bus.client.after_event_execution
async def after_event(event_message: EventMessage, listener_name: str, client: BusClient) -> None:
    """A hook of a listener."""


# The decorated function is what it was.
bare()
before_call(RpcMessage(api_name="auth", procedure_name="check_password"))
client.on_stop(bare)
client.before_worker_start(with_client, before_plugins=True)
client.after_worker_stopped()(bare)
client.before_rpc_execution(before_call)
client.after_rpc_execution(after_call)
client.before_event_sent(lambda event_message: None)
client.after_event_sent(lambda **kwargs: None)
client.before_event_execution(after_event)


@bus.client.every(seconds=1, minutes=2, hours=3, days=4, also_run_immediately=True)
def tidy_up() -> int:
    """Work at an interval."""
    return 1


@bus.client.schedule(schedule.every().day.at("07:00"), also_run_immediately=True)
async def report() -> None:
    """Work by the clock."""


assert_type(tidy_up(), int)


async def in_the_background() -> None:
    """Work beside the worker."""


client.add_background_task(in_the_background())


async def share_a_loop() -> None:
    """Run a worker beside another program."""
    await bus.client.start_worker()
    await bus.client.wait_for_apis_async("auth", timeout=3)
    await bus.client.stop_worker()
    await bus.client.consume_rpcs()
    await bus.client.close_async()


def run() -> int:
    """Run a worker, in each way."""
    client.start_in_background()
    client.request_shutdown()
    client.close()
    with create().client as other:
        other.start_in_background()
    return client.run_forever()


# --- messages ---------------------------------------------------------------------------------------


def look(message: EventMessage, call: RpcMessage, any_message: Message) -> None:
    """Everything a message has."""
    assert_type(message.id, str)
    assert_type(message.native_id, str)
    assert_type(message.api_name + message.event_name + message.procedure_name + message.canonical_name, str)
    assert_type(message.kwargs, dict[str, Any])
    assert_type(message.version, int)
    assert_type(message.deliveries, int)
    assert_type(message.redelivered, bool)
    assert_type(message.published_at, float)
    assert_type(message.publisher, str)
    assert_type(call.canonical_name, str)
    assert_type(any_message.id, str)


# --- plugins ----------------------------------------------------------------------------------------


class Tracing(LightbusPlugin):
    """A plugin of one's own."""

    priority = 10

    def __init__(self, *, rate: float = 1.0) -> None:
        self.rate = rate

    @classmethod
    def from_config(cls, *, config: Config, rate: float = 0.5) -> Tracing:
        return cls(rate=rate)

    async def before_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> None:
        print(rpc_message)


create(plugins=[Tracing(rate=0.1)])

# --- tests of programs ------------------------------------------------------------------------------


def test_with_a_mock() -> None:
    """Mock the bus as a context manager."""
    with bus_mocker(bus) as mock:
        assert_type(mock, BusMock)
        mock.mock_rpc_call("auth.check_password", result=True)
        mock.mock_event_firing("auth.user_registered")
        mock.assert_rpc_called("auth.check_password", times=1)
        mock.assert_event_not_fired("auth.user_registered")
        assert_type(mock.get_next_event("auth.user_registered"), EventMessage)
        assert_type(mock.rpc_names_called, list[str])
    with UpstreamBusMocker(bus, require_mocking=False):
        pass


@bus_mocker(bus)
def test_decorated(mock: BusMock) -> None:
    """Mock the bus as a decorator."""
    try:
        bus.auth.check_password(user="a", password="b")
    except NotMocked:
        mock.assert_rpc_not_called("auth.check_password")


def test_in_memory() -> None:
    """Run real workers without a network."""
    with memory_bus() as hub:
        assert_type(hub, MemoryBus)
        auth = hub.create(service_name="auth")
        assert_type(auth, BusPath)
        hub.start(auth, timeout=3)
        hub.attach(bus)


# --- utilities --------------------------------------------------------------------------------------


async def total() -> Decimal:
    """Something to wait for."""
    return Decimal(1)


@uses_django_db
def with_database(event_message: EventMessage, username: str) -> int:
    """A handler that uses the ORM."""
    return len(username)


assert_type(block(total(), timeout=5), Decimal)
