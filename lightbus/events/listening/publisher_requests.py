"""Messages to one publisher over our DEALER socket: requests, repeated until answered, and one-way messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ...core.peers import Peer
from ...ports.transport import Transport
from ...wire import envelope
from ...wire.envelope import AnyMessage
from .requests import OnAnswer, Requests, SendRequest

__all__ = ["PublisherRequests"]


class PublisherRequests:
    """
    Our messages to one publisher. Only touched from the node's loop.

    Args:
        transport: makes the connection.
        peer: the publisher.
        on_unsolicited: the handlers of messages that are not answers, by message type.
        not_handled: called with a message that could not be handled, or None for one that could not be read.
        numbers: the numbers of all requests of this process.

    Attributes:
        peer: the publisher, with its latest announcement.
        max_message_size: the largest message, in bytes, that we take; sent to the publisher.
        numbers: as given.

    """

    def __init__(
        self,
        transport: Transport,
        peer: Peer,
        on_unsolicited: Mapping[type, Callable[[Any], None]],
        not_handled: Callable[[AnyMessage | None, Exception], None],
        numbers: Iterator[int],
    ) -> None:
        self.peer = peer
        self.max_message_size = transport.max_message_size
        self.numbers = numbers
        self._requests = Requests(numbers)
        self.answered = self._requests.answered
        """Passes an answer on; returns whether its request was waiting."""
        self._on_unsolicited = on_unsolicited
        self._not_handled = not_handled
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._dealer = transport.dealer(peer.endpoint, self._on_frame, fingerprint=peer.announcement.fingerprint)

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return self._loop.time()

    def send(self, message: AnyMessage, call_id: int = 0) -> None:
        """Send a message."""
        frame = envelope.encode(message, call_id)
        if not self._closed and not self._dealer.send(frame):
            self._dealer.send_later(frame)

    def ask(
        self, make: Callable[[], AnyMessage | None], answer: OnAnswer, *, is_urgent: bool = False, number: int = 0
    ) -> None:
        """
        Send a request, and repeat it until it is answered.

        Args:
            make: returns the message, made anew for each repetition; None if the request is not wanted any more.
            answer: called with the answer, or with None if there will be none.
            is_urgent: whether a listener is blocked until the answer, so that the request is repeated early.
            number: the number of the same request to another publisher that did not answer.

        """
        message = None if self._closed else make()
        if message is None:
            answer(None)
            return
        resend = partial(self._resend, make)
        number, seconds = self._requests.add(
            resend, answer, self._loop.time(), is_urgent=is_urgent, number=number
        )  # fmt: skip
        frame = envelope.encode(message, number)
        if not self._dealer.send(frame):
            self._dealer.send_later(frame)
        if is_urgent:
            self._loop.call_later(seconds, self._retry_soon, seconds)

    def ask_with(self, send: SendRequest, answer: OnAnswer) -> None:
        """Add a request that is not sent as a message to the publisher."""
        number, _ = self._requests.add(send, answer, self._loop.time())
        if not send(number):
            self._requests.answered(number, None)

    def _resend(self, make: Callable[[], AnyMessage | None], number: int) -> bool:
        message = None if self._closed else make()
        if message is not None:
            self.send(message, number)
        return message is not None

    def _on_frame(self, frame: bytes) -> None:
        """Pass a message of the publisher to the request that it answers, or to the handler of its type."""
        message: AnyMessage | None = None
        try:
            number, message = envelope.decode(frame)
            answer = self._requests.take(number)
            if answer is not None:
                answer(message)
            elif (handler := self._on_unsolicited.get(type(message))) is not None:
                handler(message)
        except Exception as error:
            self._not_handled(message, error)

    def _retry_soon(self, after: float) -> None:
        """Repeat urgent requests, sooner than the tick would."""
        self.tick()
        seconds = self._requests.next_check(after)
        if seconds is not None:
            self._loop.call_later(seconds, self._retry_soon, seconds)

    def tick(self) -> None:
        """Repeat requests that should have been answered by now."""
        self._requests.tick(self._loop.time())

    def close(self) -> None:
        """Send queued messages, close the connection, and end all open requests without an answer."""
        self._closed = True
        self._dealer.flush_and_close(100)
        self._requests.close()
