"""The engine of a client in this process, and its channel for plain threads: made at first use, closed once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from ..blocking import BlockingChannel, is_exiting, wait_at_exit
from ..config import Config, expand
from ..engine.engine import Engine
from ..exceptions import BusAlreadyClosed
from ..membership.context import Identity

__all__ = ["EngineHolder", "EngineState", "MakeEngine"]

MakeEngine: TypeAlias = Callable[[Config, Identity], Engine]


class EngineState(NamedTuple):
    """The engine and its channel, whether the bus was closed, and the function that makes the next engine."""

    engine: Engine | None = None
    channel: BlockingChannel | None = None
    is_closed: bool = False
    make: MakeEngine = Engine


class EngineHolder:
    """
    The holder of a client's engine. Any thread may use it. The engine of a holder that is collected is closed.

    Args:
        config: the settings.
        make: makes the engine.
        prepare: called before an engine is made, with the lock held.

    Attributes:
        lock: held while the engine, the worker, or the stored events change. A forked child makes a new lock.
        is_closed: whether the bus was closed.

    """

    def __init__(self, config: Config, make: MakeEngine, prepare: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self.is_closed = False
        self._config = config
        self._make = make
        self._prepare = prepare
        self._engine: Engine | None = None
        self._channel: BlockingChannel | None = None
        self._observers: list[Callable[[Engine], None]] = []
        self._collected: weakref.finalize[..., EngineHolder] | None = None
        """Called when this holder is collected without having been closed."""

    @property
    def engine(self) -> Engine:
        """The engine of this process, made at first use. Raises BusAlreadyClosed."""
        engine = self._engine
        return self._open()[0] if engine is None else engine

    async def make_now(self) -> None:
        """Load the plugins and make the engine now, instead of at first use (`client.lazy_load_now()`, as in 1.x)."""
        await asyncio.to_thread(lambda: self.engine)

    @property
    def channel(self) -> BlockingChannel:
        """The channel for plain threads, made with the engine at first use. Raises BusAlreadyClosed."""
        channel = self._channel
        return self._open()[1] if channel is None else channel

    @property
    def opened(self) -> Engine | None:
        """The engine, or None if it has not been made yet."""
        return self._engine

    def observe(self, observer: Callable[[Engine], None]) -> None:
        """Call `observer` with each engine that is made, with the lock held."""
        self._observers.append(observer)

    def exchange(self, state: EngineState) -> EngineState:
        """Replace the engine and its channel, and return the former state (`lightbus.testing`)."""
        with self.lock:
            former = EngineState(self._engine, self._channel, self.is_closed, self._make)
            self._engine, self._channel, self.is_closed, self._make = state
            return former

    def close(self) -> Engine | None:
        """Allow no new engine, and return the present one, to be closed."""
        with self.lock:
            self.is_closed = True
            self._forget_collection()
            engine, self._engine = self._engine, None
            return engine

    def abandon(self) -> tuple[Any, ...]:
        """Drop, in a forked child, the objects of the parent, and return them: if collected, they would be closed."""
        self._forget_collection()
        if self._engine is not None:
            self._engine.journals.abandon()
        inherited = self._engine, self._channel, self.lock
        self._engine = self._channel = None
        self.lock = threading.RLock()
        return inherited

    def _open(self) -> tuple[Engine, BlockingChannel]:
        with self.lock:
            if not self.is_closed:
                return self._opened()
        wait_at_exit()
        raise _closed()

    def _opened(self) -> tuple[Engine, BlockingChannel]:
        """Return the engine and its channel, made now if there is none; to be called with the lock held."""
        engine, channel = self._engine, self._channel
        if engine is None or channel is None:
            self._prepare()
            engine = self._make(self._config, _identity(self._config))
            channel = self._channel = BlockingChannel(engine)
            self._engine = engine
            self._collected = weakref.finalize(self, _close_collected, engine)
            self._collected.atexit = False  # the client is closed then
            for observer in self._observers:
                observer(engine)
        return engine, channel

    def _forget_collection(self) -> None:
        if self._collected is not None:
            self._collected.detach()


def _close_collected(engine: Engine) -> None:
    """Close the engine of a client that was collected: its thread and its files would stay until the process ends."""
    place = engine.loop_host.place
    if place is not None:
        # By way of its loop: the collector may run in any thread, with any lock held.
        with contextlib.suppress(RuntimeError):  # the loop is closed
            place[1].call_soon_threadsafe(_close_in_thread, engine)


def _close_in_thread(engine: Engine) -> None:
    threading.Thread(target=engine.close, name="lightbus-close", daemon=True).start()


def _identity(config: Config) -> Identity:
    return Identity(
        bus=config.bus_name, service=expand(config.service_name), process=expand(config.process_name)
    )  # fmt: skip


def _closed() -> BusAlreadyClosed:
    return BusAlreadyClosed(
        "This bus was closed, since the program ends: register an exit handler that uses it after "
        "lightbus.create(), so that it runs before that."
        if is_exiting()
        else "This bus was closed. Make a new one with lightbus.create()."
    )
