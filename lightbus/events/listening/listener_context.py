"""What a listener at work needs of those around it: the process that it runs in, and where its events come from."""

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
    The process that a listener works in. Only touched from the node's loop.

    Args:
        config, apis, hooks, client: as for the server.
        executor: the threads in which `def` functions run.
        on_fatal: called when a listener fails whose policy is to stop the worker.
        caught_up: called when a listener has nothing left to do.

    Attributes:
        max_message_size: bytes that a message to this process may have.

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
        """Return whether handlers are given the types that they are annotated with."""
        return self._config.api(api).cast_values

    def is_strict(self, api: str) -> bool:
        """Return whether what a handler is given has to be of the type that it is annotated with, text above all."""
        return self._config.api(api).strict_validation

    def check_of(self, api: str, event: str, *, casts: bool = False) -> Callable[[Kwargs], Kwargs] | None:
        """
        Return what completes and checks the arguments of an event, and raises; None where nothing is to be done.

        Args:
            api, event: which event.
            casts: whether it also gives them the types that the event declares, for a handler that declares none.

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
    """Return the arguments as an event declares them; what it does not declare stays as it is."""
    if signature.passes(kwargs):
        return kwargs
    known = kwargs.keys() if signature.wildcard is not None else {each.name for each in signature.parameters}
    return {**kwargs, **signature.cast({name: value for name, value in kwargs.items() if name in known})}


class DeliverySource(Protocol):
    """Where streams come from: what a listener follows at one publisher."""

    publisher: str

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """
        Have it recorded that an event is about to be handled, the `at_least`th time or more.

        Return which delivery of it to the group that is; 0 where it is not for this process any more.
        """

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Store an event as a dead letter with its error; return whether it is stored."""

    def ack(self, stream: Stream) -> None:
        """Acknowledge soon what was handled of a stream, up to `stream.handled`."""

    def after_turn(self, stream: Stream) -> None:
        """Fetch more of a stream after its turn; of one that is not ours any more, record that it is finished."""

    def retry(self, stream: Stream) -> None:
        """Have the group be given the event at hand again, which was not handled here, and what follows on it."""

    def fetch_more(self, stream: Stream) -> None:
        """Ask for more of a stream, where there is more and little waits."""

    def was_handled(self, key: Any, sequence: int) -> None:
        """Record that a topic was handled up to here as it came from another source."""
