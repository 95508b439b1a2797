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
    Encodes the answers to calls. Thread-safe.

    Args:
        config: the settings: validation, the largest message.
        counts: counts calls whose handler failed.
        max_message_size_of: returns the largest message, in bytes, that a calling instance takes, or 0 if unknown.

    """

    def __init__(self, config: Config, counts: Counter[str], max_message_size_of: Callable[[str], int]) -> None:
        self._config = config
        self._counts = counts
        self._max_message_size_of = max_message_size_of
        self._disk = RecurringLog(logger)

    def of_result(self, job: Job, value: Any) -> bytes:
        """Return the frame of a result. Raises if the result does not fit its annotation, or cannot be sent."""
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
        """Log a raised exception and return its frame; an empty one if the call was cancelled by its caller."""
        if job.cancelled and (is_a(error, asyncio.CancelledError) or is_a(error, CancelledError)):
            return b""
        job.failed = True
        if is_a(error, InvalidArguments) and not job.in_user_code:  # raised by our own check of the arguments
            code = cast(InvalidArguments, error).code
            message = Error(code, safely(str, error), job.execution is not None, {})
        else:
            message = describe(job.name, error)
            self._counts["failed"] += 1
            self._log(job, message.message, error)
        return encode_error(message, job.call_id, self._most(job))

    def _log(self, job: Job, text: str, error: BaseException) -> None:
        if is_a(error, JournalError):  # on a full disk every call that fires an event fails
            shorten(error)
            self._disk.log(job.name, logging.WARNING, "%s", text, exc_info=error)
        else:
            report(logger, logging.WARNING, error, "%s", text)

    def _most(self, job: Job) -> int:
        """Return the largest size, in bytes, of the answer to a call."""
        return most(self._config.network.max_message_size, self._max_message_size_of(job.request.caller))
