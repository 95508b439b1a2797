"""Several small frames in one message of ZeroMQ: for both ends, a message costs more than its content.

A bundle is a zero byte (where a frame has its kind), the number of frames (1 byte), the length of each frame (16 bits,
big endian), and the frames. It is never larger than the size that every peer accepts.
"""

from __future__ import annotations

from struct import Struct

from ...wire.sizes import LEAST

__all__ = ["BUNDLED", "MOST", "MOST_BYTES", "Bundle", "frames_of"]

BUNDLED = b"\0"
"""The first byte of a bundle; no frame begins with it."""

MOST = 16
"""Most frames in one bundle: the other side shall start on these while more are made."""

MOST_BYTES = LEAST - 2 - 2 * MOST
"""Most bytes of all frames in one bundle."""

_LENGTHS = [Struct(f">{count}H") for count in range(MOST + 1)]


class Bundle:
    """Frames for one receiver, in order, that are sent together."""

    __slots__ = ("frames", "size")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size = 0

    def takes(self, frame: bytes) -> bool:
        """Add a frame if there is room for it; return whether it was added."""
        if len(self.frames) >= MOST or self.size + len(frame) > MOST_BYTES:
            return False
        self.frames.append(frame)
        self.size += len(frame)
        return True

    def message(self) -> bytes:
        """Return the message to send; a single frame is sent as it is."""
        frames = self.frames
        if len(frames) == 1:
            return frames[0]
        return b"".join((BUNDLED, bytes((len(frames),)), _LENGTHS[len(frames)].pack(*map(len, frames)), *frames))


def frames_of(message: bytes) -> list[bytes]:
    """Return the frames of a message. One that is not a bundle, or a damaged one, is one frame."""
    if message[:1] != BUNDLED or len(message) < 2 or not 1 < (count := message[1]) <= MOST:
        return [message]
    start = 2 + 2 * count
    if len(message) < start:
        return [message]
    frames = []
    for length in _LENGTHS[count].unpack_from(message, 2):
        frames.append(message[start : start + length])
        start += length
    return frames if start == len(message) else [message]
