"""What a listener at work needs of those around it: the process that it runs in, and where its events come from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from ..core.streams import Entry, Stream
from ..listener import Listener
from ..service.hooks import HookRegistry
from ..typing import Kwargs

__all__ = ["DeliverySource", "ListenerContext"]


class ListenerContext(Protocol):
    """What a listener at work needs of its process."""

    hooks: HookRegistry
    client: Any
    executor: Executor | None
    """The threads in which `def` functions run."""
    on_fatal: Callable[[Listener, Exception], None]
    """Called when a listener fails whose policy is to stop the worker."""
    max_message_size: int
    """Bytes that a message to this process may have."""

    def casts(self, api: str) -> bool:
        """Return whether handlers are given the types that they are annotated with."""

    def check_of(self, api: str, event: str) -> Callable[[Kwargs], Kwargs] | None:
        """Return what completes and checks the arguments of an event, and raises; None where nothing is to be done."""

    def caught_up(self) -> None:
        """Note that a listener has nothing left to do."""


class DeliverySource(Protocol):
    """Where a stream comes from: the listener's subscription at one publisher."""

    publisher: str

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """
        Have it recorded that an event is about to be handled, the `at_least`th time or more.

        Return which delivery of it to the group that is; 0 where it is not for this process any more.
        """

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Have an event kept with its error, to be given to nobody; return whether it is."""

    def ack(self, stream: Stream) -> None:
        """Acknowledge soon what was handled of a stream, up to `stream.handled`."""

    def retry(self, stream: Stream) -> None:
        """Have the group be given the event at hand again, which was not handled here, and what follows on it."""

    def fetch_more(self, stream: Stream) -> None:
        """Ask for more of a stream, where there is more and little waits."""
