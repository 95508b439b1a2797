"""Internal calls of the library to other workers do not run the user's hooks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lightbus import Api
from lightbus.engine.internal_calls import ask
from lightbus.exceptions import LightbusException
from lightbus.testing import memory_bus


class AuthApi(Api):
    class Meta:
        name = "auth"

    def check(self) -> bool:
        return True


def test_user_hooks_do_not_run() -> None:
    """Neither those of the caller nor those of the callee; errors are returned unchanged."""
    seen: list[str] = []

    def note(**details: Any) -> None:
        seen.append(details["rpc_message"].procedure_name)

    with memory_bus() as hub:
        serves, asks = hub.create(), hub.create()
        serves.client.register_api(AuthApi())
        serves.client.hooks.add("before_rpc_execution", note)
        asks.client.hooks.add("before_rpc_call", note)
        hub.start(serves)
        assert asks.auth.check() is True
        assert seen == ["check", "check"]
        engine = asks.client.engine
        [peer] = engine.snapshot.by_api["auth"]
        found = asyncio.run(ask(engine, peer, "internal.peer", "ping", {}))
        assert found
        with pytest.raises(LightbusException):
            asyncio.run(ask(engine, peer, "internal.peer", "no_such_procedure", {}))
    assert seen == ["check", "check"]
