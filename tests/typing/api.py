"""Every public form as its users write it. Not run: `mypy --strict` reads it, and reports a wrong annotation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, assert_type

import schedule

import lightbus
from lightbus import (
    ALL_FEATURES,
    Api,
    BatchFailed,
    BusClient,
    BusPath,
    Config,
    Event,
    EventMessage,
    Feature,
    LightbusWorkerError,
    OnError,
    Parameter,
    ResultMessage,
    RpcMessage,
    Schema,
    WildcardParameter,
)
from lightbus.plugins import LightbusPlugin
from lightbus.testing import MemoryDiscovery, MemoryHub, MemoryNetwork, MemoryTransport
from lightbus.utilities.async_tools import block
from lightbus.utilities.django import uses_django_db

# Making a bus

bus = lightbus.create()
assert_type(bus, BusPath)
lightbus.create({"service_name": "shop"}, service_name="shop", process_name="{hostname}-{pid}")
lightbus.create("bus.yaml")
lightbus.create(Path("bus.yaml"), features=[Feature.RPCS, "events"])
lightbus.create(config_file="https://example.com/bus.yaml", features=ALL_FEATURES, flask=True)
config = lightbus.load_config({"bus": {"log_level": "debug"}}, config_file="bus.yaml")
assert_type(config, Config)
lightbus.create(config, plugins=[LightbusPlugin()])


class MyClient(BusClient):
    pass


class MyPath(BusPath):
    pass


hub, network = MemoryHub(), MemoryNetwork()
lightbus.create(
    discovery=lambda bus: MemoryDiscovery(bus, hub),
    transport=lambda bus, settings: MemoryTransport(network, max_message_size=settings.max_message_size),
)
lightbus.create(client_class=MyClient, node_class=MyPath)
assert_type(lightbus.get_bus(), BusPath)
assert_type(lightbus.get_bus(lightbus.import_bus_module("my_service.bus")), BusPath)
lightbus.configure_logging("info")

# Declaring


class AuthApi(Api):
    user_registered = Event(parameters=["username", Parameter("email", str, default=None)])
    deleted = Event((Parameter("user_id", int), WildcardParameter()), key="user_id")
    seen = Event(delivery="best_effort", version=2)

    class Meta:
        name = "auth"
        internal = False
        version = 1

    def check_password(self, username: str, password: str) -> bool:
        return password == "secret"

    async def delete(self, user_id: int) -> None:
        await bus.auth.deleted.fire_async(user_id=user_id, reason="asked for")


bus.client.register_api(AuthApi())
assert_type(bus.client.api_registry.get("auth"), Api)
assert_type(bus.client.api_registry.names(), list[str])

# Calling

is_valid: bool = bus.auth.check_password(username="admin", password="secret")
bus.auth.check_password.call(username="admin", password="secret", bus_options={"timeout": 3})
arguments = {"username": "admin", "password": "secret"}
bus.auth.check_password(**arguments)
path = bus.shop.orders.count
assert_type(path, BusPath)
assert_type(path.api_name, str)
assert_type(path.fully_qualified_name, str)


async def calling() -> bool:
    found: bool = await bus.auth.check_password.call_async(**arguments, bus_options={"timeout": 0.5})
    first, second = await asyncio.gather(bus.auth.a.call_async(), bus.auth.b.call_async())
    return found and bool(first) and bool(second)


assert_type(block(calling()), bool)

try:
    bus.auth.check_password(username="admin", password="secret")
except LightbusWorkerError as error:
    assert_type(error.remote_type, str)
    assert_type(error.remote_args, tuple[Any, ...])
    assert_type(error.trace, str)
    assert_type(error.peer, str)
except (lightbus.UnknownApi, lightbus.LightbusTimeout, lightbus.PeerLost, lightbus.LightbusException):
    pass

# Firing

bus.auth.user_registered(username="sally", email="sally@example.com")
message = bus.auth.user_registered.fire(username="sally")
assert_type(message, EventMessage)
assert_type(message.id, str)
assert_type(message.kwargs, dict[str, Any])
assert_type(message.deliveries, int)


async def firing() -> None:
    assert_type(await bus.auth.user_registered.fire_async(username="sally"), EventMessage)
    assert_type(await bus.auth.user_registered.fire_many_async([{"username": "sally"}]), list[str])
    await bus.auth.user_registered.fire_many_async(usernames(), bus_options={"timeout": 3})


async def usernames() -> AsyncIterator[dict[str, str]]:
    yield {"username": "sally"}


assert_type(bus.auth.user_registered.fire_many([{"username": "sally"}, {"username": "harry"}]), list[str])
bus.auth.user_registered.fire_many(({"username": name} for name in "abc"), bus_options={"wait_for": "ack"})


# Listening


def with_message(event_message: EventMessage, username: str, email: str | None) -> None: ...


async def asynchronous(event_message: EventMessage, **kwargs: Any) -> None: ...


def arguments_only(username: str, email: str | None) -> None: ...


class Handler:
    def method(self, event_message: EventMessage) -> None: ...


def together(messages: list[EventMessage]) -> None:
    errors: dict[EventMessage | str, Exception] = {messages[0]: ValueError("locked"), messages[1].id: KeyError("x")}
    if len(messages) > 2:
        raise BatchFailed([messages[0], messages[1].id])
    raise BatchFailed(errors)


bus.auth.user_registered.listen(with_message)
bus.auth.user_registered.listen(asynchronous, listener_name="another", on_error=OnError.RETRY)
bus.auth.user_registered.listen(arguments_only, bus_options={"since": "2026-01-01"})
bus.auth.user_registered.listen(Handler().method)
bus.auth.user_registered.listen(together, batch=100, batch_wait=0.5)
bus.client.listen_for_event("auth", "deleted", together, listener_name="together", batch=10)
bus.auth.user_registered.listen(lambda message: print(message.canonical_name), listener_name="prints")
bus.client.listen_for_event("auth", "*", asynchronous, listener_name="all", on_error=OnError.ACKNOWLEDGE_AND_LOG)
bus.client.listen_for_events([("auth", "deleted"), ("shop.orders", "sold")], asynchronous, listener_name="both")


@uses_django_db
def with_database(event_message: EventMessage, username: str) -> None: ...


bus.auth.user_registered.listen(with_database)

# Hooks


@bus.client.on_start
def bare() -> None: ...


@bus.client.on_stop()
async def called(client: BusClient) -> None: ...


@bus.client.before_worker_start(before_plugins=True)
def with_option(**kwargs: Any) -> None: ...


@bus.client.before_rpc_call
def before_call(rpc_message: RpcMessage) -> None: ...


@bus.client.after_rpc_execution()
async def after_execution(rpc_message: RpcMessage, result_message: ResultMessage, client: BusClient) -> None: ...


@bus.client.after_event_execution
def after_event(event_message: EventMessage, listener_name: str) -> None: ...


@bus.client.around_rpc_execution
@contextmanager
def timed(rpc_message: RpcMessage) -> Iterator[None]:
    yield


bus.client.after_worker_started(bare)
bus.client.after_worker_stopped(bare)
bare()  # a decorated function stays what it was
assert_type(before_call(RpcMessage(api_name="auth", procedure_name="check_password")), None)


class MyPlugin(LightbusPlugin):
    priority = 10

    async def before_event_sent(self, *, event_message: EventMessage, client: Any) -> None: ...


# By the clock


@bus.client.every(minutes=5, also_run_immediately=True)
def often() -> None: ...


@bus.client.every(seconds=0.5)
async def more_often() -> int:
    return 1


@bus.client.schedule(schedule.every().day.at("07:00"), also_run_immediately=True)
def in_the_morning() -> None: ...


often()
bus.client.add_background_task(calling())

# Schemas

assert_type(bus.schema, Schema)
assert_type(bus.schema.api_names, list[str])
assert_type(bus.schema.rpcs, list[tuple[str, str]])
bus.schema.save_local("schemas")
bus.schema.load_local(Path("schemas"))
assert_type(bus.auth.check_password.parameter_schema, dict[str, Any])
assert_type(bus.auth.check_password.response_schema, dict[str, Any] | None)
bus.auth.check_password.validate_parameters({"username": "sally"})
bus.auth.check_password.validate_response(True)

# A worker's life

assert_type(bus.client, BusClient)
bus.client.set_features([Feature.EVENTS, "tasks"])
bus.client.wait_for_apis("auth", "shop.orders", timeout=10)
assert_type(bus.client.run_forever(), int)
bus.client.start_in_background()
bus.client.request_shutdown()
bus.client.close()


async def life() -> None:
    await bus.client.start_worker()
    await bus.client.wait_for_apis_async("auth")
    await bus.client.stop_worker()
    await bus.client.consume_rpcs()
    await bus.client.close_async()
    result = await bus.client.call_rpc_remote("auth", "check_password", {"username": "sally"}, {"timeout": 1})
    await bus.client.fire_event("auth", "user_registered", {"username": result})


with bus.client as client:
    assert_type(client.service_name, str)
