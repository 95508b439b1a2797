"""What we say to one publisher over our DEALER: with an answer that is waited for, or without."""

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
    Our side of the conversation with one publisher. Only touched from the node's loop.

    Args:
        transport: makes the connection.
        peer: the publisher.
        unasked: the handlers of messages that are no answers, by message.
        not_handled: called where what it says cannot be read (None), or not be handled.
        numbers: of all requests of this process.

    Attributes:
        peer: the publisher, as it announced itself last.
        max_message_size: bytes that a message to us may have; sent to the publisher.
        numbers: as given.

    """

    def __init__(
        self,
        transport: Transport,
        peer: Peer,
        unasked: Mapping[type, Callable[[Any], None]],
        not_handled: Callable[[AnyMessage | None, Exception], None],
        numbers: Iterator[int],
    ) -> None:
        self.peer = peer
        self.max_message_size = transport.max_message_size
        self.numbers = numbers
        self._requests = Requests(numbers)
        self.answered = self._requests.answered
        """Passes an answer on; returns whether its request was waiting."""
        self._unasked = unasked
        self._not_handled = not_handled
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._dealer = transport.dealer(peer.endpoint, self._on_frame, fingerprint=peer.announcement.fingerprint)

    def now(self) -> float:
        """Return the time in seconds of a clock that is never put right."""
        return self._loop.time()

    def send(self, message: AnyMessage, call_id: int = 0) -> None:
        """Send something."""
        frame = envelope.encode(message, call_id)
        if not self._closed and not self._dealer.send(frame):
            self._dealer.send_later(frame)

    def ask(
        self, make: Callable[[], AnyMessage | None], answer: OnAnswer, *, is_urgent: bool = False, number: int = 0
    ) -> None:
        """
        Send something until it is answered.

        Args:
            make: returns what to send, each time as it is right by then; None where it is not wanted any more.
            answer: is given the answer, or None where there will be none.
            is_urgent: whether a listener is blocked until it is answered, so that it is repeated early.
            number: of the same question, as it was put to another publisher that did not answer.

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
        """Ask in another way than by a message to the publisher."""
        number, _ = self._requests.add(send, answer, self._loop.time())
        if not send(number):
            self._requests.answered(number, None)

    def _resend(self, make: Callable[[], AnyMessage | None], number: int) -> bool:
        message = None if self._closed else make()
        if message is not None:
            self.send(message, number)
        return message is not None

    def _on_frame(self, frame: bytes) -> None:
        """Pass a message of the publisher on: to the request that it answers, or to the handler of such messages."""
        message: AnyMessage | None = None
        try:
            number, message = envelope.decode(frame)
            answer = self._requests.take(number)
            if answer is not None:
                answer(message)
            elif (handler := self._unasked.get(type(message))) is not None:
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
        """Ask again what should have been answered by now."""
        self._requests.tick(self._loop.time())

    def close(self) -> None:
        """Send what is queued, make no more requests, and end all waiting ones without an answer."""
        self._closed = True
        self._dealer.flush_and_close(100)
        self._requests.close()
