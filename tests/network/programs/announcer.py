"""
Announces peers that are none, by multicast DNS, as a stranger without a key may: `COUNT` of them, `RATE` a second,
over and over, each with 16 addresses at which nobody is. `FINGERPRINT`: of the key that they pretend to have.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

from zeroconf import DNSOutgoing, const
from zeroconf.asyncio import AsyncServiceInfo

from lightbus.adapters.mdns.discovery import MDNS_GROUP, MDNS_PORT, SERVICE_TYPE, instance_name
from lightbus.wire.announcement import Announcement

COUNT, RATE = int(os.environ["COUNT"]), float(os.environ["RATE"])
ADDRESSES = tuple(f"10.77.1.{number}" for number in range(100, 116))


def packet(number: int) -> bytes:
    """Return the announcement of one of them."""
    announcement = Announcement(
        bus=os.environ["LIGHTBUS_BUS"],
        instance=f"{number:016x}",
        service="fake",
        process="fake",
        host="fake",
        api_names=("work",),
        addresses=ADDRESSES,
        rpc_port=4711,
        event_port=4712,
        fingerprint=os.environ.get("FINGERPRINT", ""),
    )
    info = AsyncServiceInfo(
        SERVICE_TYPE,
        instance_name(announcement),
        port=announcement.rpc_port,
        properties=dict(announcement.to_txt()),
        server=f"{announcement.instance}.local.",
        parsed_addresses=list(ADDRESSES),
    )
    out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for record in [info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()]:
        out.add_answer_at_time(record, 0)
    [made] = out.packets()
    return bytes(made)


def forever() -> Iterator[bytes]:
    """Return their announcements, over and over."""
    made = []
    for number in range(COUNT):
        made.append(packet(number))
        yield made[-1]
    print("all are announced", flush=True)
    while True:
        yield from made


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((os.environ["ADDRESS"], 0))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(os.environ["ADDRESS"]))
    began = time.monotonic()
    for sent, each in enumerate(forever()):
        sender.sendto(each, (MDNS_GROUP, MDNS_PORT))
        time.sleep(max(0.0, began + sent / RATE - time.monotonic()))
