"""What we say to one publisher over our DEALER: with an answer that is waited for, or without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from ..core.peers import Peer
from ..ports.transport import Transport
from ..wire import envelope
from ..wire.envelope import Message
from .requests import Answer, Requests, Say

__all__ = ["PublisherRequests"]


class PublisherRequests:
    """
    Our side of the conversation with one publisher. Only touched from the node's loop.

    Args:
        transport: makes the connection.
        peer: the publisher.
        on_frame: called with everything that it says.
        numbers: of the questions that this process puts to anybody.

    Attributes:
        peer: the publisher, as it announced itself last.
        max_message_size: bytes that a message to us may have; the publisher is told.
        numbers: as given.

    """

    def __init__(
        self, transport: Transport, peer: Peer, on_frame: Callable[[bytes], None], numbers: Iterator[int]
    ) -> None:
        self.peer = peer
        self.max_message_size = transport.max_message_size
        self.numbers = numbers
        self._requests = Requests(numbers)
        self.answered = self._requests.answered
        """Hands an answer on; returns whether somebody waited for it."""
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._dealer = transport.dealer(peer.endpoint, on_frame, fingerprint=peer.announcement.fingerprint)

    def now(self) -> float:
        """Return the time in seconds of a clock that is never put right."""
        return self._loop.time()

    def send(self, message: Message, call_id: int = 0) -> None:
        """Send something."""
        frame = envelope.encode(message, call_id)
        if not self._closed and not self._dealer.send(frame):
            self._dealer.send_later(frame)

    def ask(
        self, make: Callable[[], Message | None], answer: Answer, *, is_urgent: bool = False, number: int = 0
    ) -> None:
        """
        Send something until it is answered.

        Args:
            make: returns what to send, each time as it is right by then; None where it is not wanted any more.
            answer: is given the answer, or None where there will be none.
            is_urgent: whether a listener stands still until it is answered, so that it is sent again early.
            number: of the same question, as it was put to another publisher that did not answer.

        """

        def say(call_id: int) -> bool:
            message = None if self._closed else make()
            if message is not None:
                self.send(message, call_id)
            return message is not None

        seconds = self._requests.ask(say, answer, self._loop.time(), is_urgent=is_urgent, number=number)
        if is_urgent:
            self._loop.call_later(seconds, self._ask_again, seconds)

    def ask_by(self, say: Say, answer: Answer) -> None:
        """Ask in another way than by a message to the publisher."""
        self._requests.ask(say, answer, self._loop.time())

    def _ask_again(self, after: float) -> None:
        """Ask again what is urgent, sooner than the tick would."""
        self.tick()
        seconds = self._requests.next_look(after)
        if seconds is not None:
            self._loop.call_later(seconds, self._ask_again, seconds)

    def tick(self) -> None:
        """Ask again what should have been answered by now."""
        self._requests.tick(self._loop.time())

    def close(self) -> None:
        """Say what is on its way, ask nothing any more, and tell everybody who waits that there will be no answer."""
        self._closed = True
        self._dealer.flush_and_close(100)
        self._requests.close()
