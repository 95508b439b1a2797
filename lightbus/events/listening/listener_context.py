"""The environment of a running listener: the process that it runs in, and the sources of its events."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from ...config import Config
from ...core.streams import Entry, Stream
from ...listener import Listener
from ...service.api import ApiRegistry
from ...service.hooks import HookRegistry
from ...service.signature import Signature
from ...typing import Kwargs

__all__ = ["DeliverySource", "ListenerContext"]


class ListenerContext:
    """
    The process that a listener runs in. Only touched from the node's loop.

    Args:
        config, apis, hooks, client: as for the server.
        executor: runs `def` functions.
        on_fatal: called when a listener fails whose policy is to stop the worker.
        caught_up: called when a listener's queue is empty.

    Attributes:
        max_message_size: the largest message, in bytes, that this process takes.

    """

    def __init__(
        self,
        *,
        config: Config,
        apis: ApiRegistry,
        hooks: HookRegistry,
        client: Any,
        executor: Executor | None,
        on_fatal: Callable[[Listener, Exception], None],
        caught_up: Callable[[], None],
    ) -> None:
        self.hooks = hooks
        self.client = client
        self.executor = executor
        self.on_fatal = on_fatal
        self.caught_up = caught_up
        self.max_message_size = config.network.max_message_size
        self._config = config
        self._apis = apis

    def casts(self, api: str) -> bool:
        """Return whether arguments are cast to the types that handlers are annotated with."""
        return self._config.api(api).cast_values

    def is_strict(self, api: str) -> bool:
        """Return whether arguments must have the annotated type exactly (`strict_validation`), text above all."""
        return self._config.api(api).strict_validation

    def check_of(self, api: str, event: str, *, casts: bool = False) -> Callable[[Kwargs], Kwargs] | None:
        """
        Return a function that completes and checks the arguments of an event, or raises; None if nothing is to be done.

        Args:
            api, event: the event.
            casts: whether it also casts them to the types that the event declares, for a handler that declares none.

        """
        registered = self._apis.find(api)
        declared = None if registered is None else registered.events.get(event)
        if declared is None:
            return None
        signature, validates = declared.signature, self._config.api(api).validation.incoming

        def check(kwargs: Kwargs) -> Kwargs:
            kwargs = signature.fill_defaults(kwargs)
            if validates:
                signature.validate_received(kwargs)
            return _cast_known(signature, kwargs) if casts else kwargs

        return check


def _cast_known(signature: Signature, kwargs: Kwargs) -> Kwargs:
    """Return the arguments cast to the types that an event declares; undeclared ones stay unchanged."""
    if signature.passes(kwargs):
        return kwargs
    known = kwargs.keys() if signature.wildcard is not None else {each.name for each in signature.parameters}
    return {**kwargs, **signature.cast({name: value for name, value in kwargs.items() if name in known})}


class DeliverySource(Protocol):
    """The source of streams: what a listener follows at one publisher."""

    publisher: str

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """
        Count a delivery of an event that is about to begin, and is at least the `at_least`th one.

        Return the number of the delivery to the group; 0 if the event is not for this process any more.
        """

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Store an event as a dead letter with its error; return whether it is stored."""

    def ack(self, stream: Stream) -> None:
        """Acknowledge the events of a stream soon, up to `stream.handled`."""

    def after_turn(self, stream: Stream) -> None:
        """Fetch more of a stream after its turn; if it was revoked, record that it is finished."""

    def retry(self, stream: Stream) -> None:
        """Deliver an event that was put back, and those after it, to the group again."""

    def fetch_more(self, stream: Stream) -> None:
        """Request more events of a stream, if there are more and few are queued."""

    def was_handled(self, key: Any, sequence: int) -> None:
        """Record that a topic was handled up to this sequence by another source."""
