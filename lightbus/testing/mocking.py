"""`bus_mocker(bus)`: puts a mock in the place of a bus client's engine, as a context manager or a decorator."""

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
    Keep a bus from the network: its calls are answered, and its events taken, by a mock.

        with bus_mocker(bus) as mock:
            mock.mock_rpc_call("auth.check_password", result=True)
            log_in("sally", "secret")
            mock.assert_rpc_called("auth.check_password", times=1)

    As a decorator, `@bus_mocker(bus)`, it gives the mock to the test as its first argument (after `self`).

    Arguments are validated as ever, against the APIs registered or loaded here, and so are mocked results. The
    caller's hooks run (`before_rpc_call`, `after_event_sent`, ...), and nothing is executed: no handler, no listener,
    and none of their hooks. When it ends the bus is what it was before. One may be put inside another; it holds for
    the bus in this process, in all its threads.

    Args:
        bus: as `lightbus.create()` returns it.
        require_mocking: whether calls and events that were not mocked raise NotMocked; calls return None otherwise.

    """

    def __init__(self, bus: BusPath, require_mocking: bool = True) -> None:
        self._client = bus.client
        self._require_mocking = require_mocking
        self._replaced: list[EngineState] = []

    def __enter__(self) -> BusMock:
        mock = BusMock(self._client.api_registry, require_mocking=self._require_mocking)
        engine = MockEngine(self._client, mock)
        # They are what the client's ways of calling and firing need of the real ones, and refuse the rest.
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
    """Take the mock out of the visible signature: pytest would look for a fixture of its name."""
    signature = inspect.signature(test)
    parameters = list(signature.parameters.values())
    del parameters[1 if parameters and parameters[0].name in ("self", "cls") else 0]
    test.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return test
