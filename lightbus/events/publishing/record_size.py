"""The largest size of an event: a subscriber would close the connection on a message over its limit."""

from __future__ import annotations

from collections.abc import Sequence

from ...exceptions import PayloadTooLarge
from .broadcast import FRAME_OVERHEAD

__all__ = ["RecordSize"]


class RecordSize:
    """
    Checks the size of records. Thread-safe.

    Args:
        max_message_size: the largest frame, in bytes.

    """

    def __init__(self, max_message_size: int) -> None:
        self.most = max_message_size - FRAME_OVERHEAD
        """The largest record, in bytes: its message also has a topic and numbers."""
        self._max_message_size = max_message_size

    def check(self, what: str, record: bytes) -> None:
        """Raise PayloadTooLarge if an event is too large."""
        if len(record) > self.most:
            raise PayloadTooLarge(
                f"The arguments of {what} take {len(record)} bytes; a message may have {self._max_message_size}. "
                "Send less, or raise network.max_message_size on both sides."
            )

    def check_all(self, what: str, records: Sequence[bytes]) -> None:
        """Raise PayloadTooLarge if one of several events is too large."""
        if max(map(len, records)) > self.most:
            for record in records:
                self.check(what, record)
