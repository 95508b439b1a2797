"""`bus_mocker(bus)`: replaces a bus client's engine by a mock, as a context manager or a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..blocking import BlockingChannel
from ..client import EngineState
from ..engine.engine import Engine
from ..path import BusPath
from .mock import BusMock
from .mock_engine import MockChannel, MockEngine

__all__ = ["BusMocker", "bus_mocker"]

T = TypeVar("T")


class BusMocker:
    """
    Keep a bus off the network: a mock answers its calls and records its events.

        with bus_mocker(bus) as mock:
            mock.mock_rpc_call("auth.check_password", result=True)
            log_in("sally", "secret")
            mock.assert_rpc_called("auth.check_password", times=1)

    As a decorator, `@bus_mocker(bus)`, it passes the mock to the test as its first argument (after `self`).

    Arguments are validated as usual, against the APIs registered or loaded here, and so are mocked results. The
    caller's hooks run (`before_rpc_call`, `after_event_sent`, ...), but no handler, no listener, and none of their
    hooks. At its end the bus is restored. Mockers can be nested; a mocker affects the bus in all threads of this
    process.

    Args:
        bus: a bus made by `lightbus.create()`.
        require_mocking: whether calls and events that were not mocked raise NotMocked; calls return None otherwise.

    """

    def __init__(self, bus: BusPath, require_mocking: bool = True) -> None:
        self._client = bus.client
        self._require_mocking = require_mocking
        self._replaced: list[EngineState] = []

    def __enter__(self) -> BusMock:
        mock = BusMock(self._client.api_registry, require_mocking=self._require_mocking)
        engine = MockEngine(self._client, mock)
        # They have what calling and firing need of the real engine and channel, and refuse the rest.
        state = EngineState(cast(Engine, engine), cast(BlockingChannel, MockChannel(engine)))
        self._replaced.append(self._client.exchange_engine(state))
        return mock

    def __exit__(self, *exception: object) -> None:
        self._client.exchange_engine(self._replaced.pop())

    def __call__(self, test: Callable[..., T]) -> Callable[..., T]:
        """Return a test, `def` or `async def`, that runs with the bus mocked."""
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def mocked_async(*args: Any, **kwargs: Any) -> Any:
                with self as mock:
                    return await test(*args, mock, **kwargs)

            return _without_mock(cast(Callable[..., T], mocked_async))

        @functools.wraps(test)
        def mocked(*args: Any, **kwargs: Any) -> T:
            with self as mock:
                return test(*args, mock, **kwargs)

        return _without_mock(mocked)


bus_mocker = BusMocker


def _without_mock(test: Callable[..., T]) -> Callable[..., T]:
    """Remove the mock from the visible signature: pytest would look for a fixture of its name."""
    signature = inspect.signature(test)
    parameters = list(signature.parameters.values())
    del parameters[1 if parameters and parameters[0].name in ("self", "cls") else 0]
    test.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return test
