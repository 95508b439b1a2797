"""What a call is answered with: its result or its error as a frame that its caller takes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, cast

from ..config import Config
from ..exceptions import DeformError, InvalidArguments, JournalError, PayloadTooLarge
from ..phrases import safely
from ..recurring import RecurringLog
from ..service.failures import describe, encode_error, is_a, report, shorten
from ..wire import envelope
from ..wire.envelope import Error
from ..wire.sizes import LEAST, most
from .job import Job

__all__ = ["Replies"]

logger = logging.getLogger("lightbus.serving")


class Replies:
    """
    Makes the answers to calls. From any thread.

    Args:
        config: the settings: validation, the largest message.
        counts: where those are counted whose handler failed.
        max_message_size_of: returns the bytes that a message to a calling instance may have, or 0.

    """

    def __init__(self, config: Config, counts: Counter[str], max_message_size_of: Callable[[str], int]) -> None:
        self._config = config
        self._counts = counts
        self._max_message_size_of = max_message_size_of
        self._disk = RecurringLog(logger)

    def of_result(self, job: Job, value: Any) -> bytes:
        """Return the frame of a result. Raises where it is not what was promised, or cannot be sent."""
        callee = job.callee
        if callee.checks_result and not callee.result_passes(value):
            callee.procedure.signature.validate_response(value)
        try:
            frame = envelope.encode_result(value, job.call_id)
        except DeformError as error:
            raise DeformError(f"The result of {job.name} cannot be sent: {error}") from None
        if len(frame) > LEAST and len(frame) > (limit := self._most(job)):
            own = self._config.network.max_message_size
            who = "the caller takes messages of" if limit < own else "a message may have"
            ours = f" (this process may send {own})" if limit < own else ""
            raise PayloadTooLarge(
                f"The result of {job.name} takes {len(frame)} bytes; {who} {limit}{ours}. "
                "Return less, or raise network.max_message_size on both sides."
            )
        return frame

    def of_error(self, job: Job, error: BaseException) -> bytes:
        """Return the frame of a raised exception, after it was logged; an empty one if there is no caller to inform."""
        if job.cancelled and (is_a(error, asyncio.CancelledError) or is_a(error, CancelledError)):
            return b""
        job.failed = True
        if is_a(error, InvalidArguments) and not job.in_user_code:  # our own complaint about the call as such
            code = cast(InvalidArguments, error).code
            message = Error(code, safely(str, error), job.execution is not None, {})
        else:
            message = describe(job.name, error)
            self._counts["failed"] += 1
            self._log(job, message.message, error)
        return encode_error(message, job.call_id, self._most(job))

    def _log(self, job: Job, text: str, error: BaseException) -> None:
        if is_a(error, JournalError):  # a disk that is full fails every call that fires something
            shorten(error)
            self._disk.log(job.name, logging.WARNING, "%s", text, exc_info=error)
        else:
            report(logger, logging.WARNING, error, "%s", text)

    def _most(self, job: Job) -> int:
        """Return the bytes that the answer to a call may have."""
        return most(self._config.network.max_message_size, self._max_message_size_of(job.request.caller))
