"""Publishing to a stream in order: all events are sent before the first is confirmed, and none overtakes another.

Each message but the first names the one before (`Nats-Expected-Last-Msg-Id`), and a server that did not store that one
last refuses it. So after an event that did not arrive none is stored, whatever happens to the connection or the
stream's leader. The rest is sent again with the same ids, by which the servers recognise what they have. If another
process has published in between, its event is the last one: then the rest is sent again, too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, ServiceUnavailableError

__all__ = ["WRONG_LAST_ID", "Outcome", "OutgoingMessage", "PublishingChannel", "StreamRefusal"]

WRONG_LAST_ID = 10070
"""A server's code: the last stored message is not the named one."""

UNAVAILABLE = 503
"""The status of a message without a receiver, and of a JetStream that is not ready yet."""


class OutgoingMessage(NamedTuple):
    """A message to publish: its subject, id, data and headers."""

    subject: str
    id: str
    data: bytes
    headers: dict[str, str]


class StreamRefusal(NamedTuple):
    """Why a message is not stored; None if no server has answered."""

    error: APIError | None


Outcome: TypeAlias = int | StreamRefusal
"""The sequence of a message, or why it is not stored."""


class PublishingChannel:
    """Publishes over one connection. Only used on its loop."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def open(self) -> None:
        """Subscribe to the answers."""
        await self.client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def _on_answer(self, message: Msg) -> None:
        waiting = self._waiting.pop(message.subject, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def publish(self, messages: Sequence[OutgoingMessage], stream: str, timeout: float) -> list[Outcome]:
        """
        Send messages, and return the outcome of each: after the first that is not stored, none is.

        Waits as long as answers arrive, at most `timeout` seconds for the next one. Raises the errors of the client.
        """
        loop = asyncio.get_running_loop()
        replies = [f"{self._inbox}.{next(self._numbers)}" for _ in messages]
        answers = [self._waiting.setdefault(reply, loop.create_future()) for reply in replies]
        try:
            before = ""
            for message, reply in zip(messages, replies, strict=True):
                headers = {**message.headers, "Nats-Msg-Id": message.id, "Nats-Expected-Stream": stream}
                if before:
                    headers["Nats-Expected-Last-Msg-Id"] = before
                before = message.id
                await self.client.publish(message.subject, message.data, reply=reply, headers=headers)
            await _answered(answers, timeout)
        finally:
            for reply in replies:
                self._waiting.pop(reply, None)
        return [_outcome(answer) for answer in answers]


async def _answered(answers: Sequence[asyncio.Future[Msg]], timeout: float) -> None:
    pending = {*answers}
    while pending:
        done, pending = await asyncio.wait(pending, timeout=timeout)
        if not done:
            return


def _outcome(answer: asyncio.Future[Msg]) -> Outcome:
    if not answer.done():
        return StreamRefusal(None)
    message = answer.result()
    if (message.headers or {}).get("Status") == str(UNAVAILABLE):
        return StreamRefusal(None)
    content = json.loads(message.data)
    if "error" in content:
        return StreamRefusal(_api_error(**content["error"]))
    return int(content["seq"])


def _api_error(*, code: int = 0, err_code: int = 0, description: str = "", **_: object) -> APIError:
    kind = ServiceUnavailableError if code == UNAVAILABLE else APIError
    return kind(code=code, err_code=err_code, description=description)
