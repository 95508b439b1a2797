"""A service that listens to `trouble.anything`, and prints the first bytes of each event it handles."""

from __future__ import annotations

import sys

import lightbus
from lightbus import OnError

bus = lightbus.create(service_name="takes")


async def take(value: bytes) -> None:
    sys.stdout.write(f"took {value[:2].decode()}.\n")


bus.trouble.anything.listen(take, listener_name="take", on_error=OnError.RETRY)
