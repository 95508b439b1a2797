"""How large an event may be: a subscriber would break off the connection over a message that is over the limit."""

from __future__ import annotations

from collections.abc import Sequence

from ...exceptions import PayloadTooLarge
from .broadcast import FRAME_OVERHEAD

__all__ = ["RecordSize"]


class RecordSize:
    """
    Checks records. Any thread may use it.

    Args:
        max_message_size: bytes that a frame may have.

    """

    def __init__(self, max_message_size: int) -> None:
        self.most = max_message_size - FRAME_OVERHEAD
        """Bytes that a record may have: its message grows by topic and numbers."""
        self._max_message_size = max_message_size

    def check(self, what: str, record: bytes) -> None:
        """Raise PayloadTooLarge where an event is too large."""
        if len(record) > self.most:
            raise PayloadTooLarge(
                f"The arguments of {what} take {len(record)} bytes; a message may have {self._max_message_size}. "
                "Send less, or raise network.max_message_size on both sides."
            )

    def check_all(self, what: str, records: Sequence[bytes]) -> None:
        """Raise PayloadTooLarge where one of several events is too large."""
        if max(map(len, records)) > self.most:
            for record in records:
                self.check(what, record)
