"""
Somebody on the network who has no key: announces itself under right names, and says again what it overheard.

Arguments: the bus, the fingerprint of its key, our address, the address of a worker, the file with what was overheard.
Prints `announced`, then `said` once noise and repetition were sent five times to both ports of the worker (5570, 5571),
which goes on until it is ended. For each connection that somebody opened to us it prints `trapped BYTES`, with `leaked`
if the secret was in it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from contextlib import suppress
from pathlib import Path

from lightbus.adapters.mdns.discovery import ZeroconfDiscovery
from lightbus.wire.announcement import Announcement, new_instance_id

BUS, FINGERPRINT, OURS, THEIRS, OVERHEARD = sys.argv[1:]
SECRET = os.environ["NOTE"].encode()
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)  # RFC 37, section 3.3
PATIENCE = 0.5


async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    heard = b""
    with suppress(OSError, asyncio.TimeoutError):
        writer.write(GREETING)
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(4096):
                heard += data
    print(f"trapped {len(heard)}{' leaked' if SECRET in heard else ''}", flush=True)
    writer.close()


async def say(port: int, what: bytes) -> None:
    """Connect, send it, and wait until we are disconnected."""
    with suppress(OSError, asyncio.TimeoutError):
        reader, writer = await asyncio.open_connection(THEIRS, port)
        writer.write(what)
        async with asyncio.timeout(PATIENCE):
            while await reader.read(4096):
                pass
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(trap, OURS, 0)
    port = server.sockets[0].getsockname()[1]
    voice = ZeroconfDiscovery(BUS, addresses=[OURS])
    await voice.start(lambda found: None, lambda lost: None)
    us = Announcement(
        bus=BUS, instance=new_instance_id(), service="at-h1", process="h1", host="h1", addresses=(OURS,),
        rpc_port=port, event_port=port, fingerprint=FINGERPRINT, api_names=("work",),
    )  # fmt: skip
    await voice.announce(us)
    print("announced", flush=True)
    overheard = Path(OVERHEARD).read_bytes()
    for number in itertools.count(1):
        said = (overheard, overheard[:64] + os.urandom(500), GREETING + os.urandom(500), os.urandom(500))
        await asyncio.gather(*(say(port, what) for port in (5570, 5571) for what in said))
        if number == 5:
            print("said", flush=True)


asyncio.run(main())
