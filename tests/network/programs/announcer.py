"""
Announces peers that are none, by multicast DNS, as a stranger without a key may: `COUNT` of them, `RATE` a second,
over and over, each with 16 addresses at which nobody is. `FINGERPRINT`: of the key that they pretend to have.
`WHAT`: not their announcements but their goodbyes, or questions of as many kinds that every worker is to answer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

from zeroconf import DNSOutgoing, DNSQuestion, const
from zeroconf.asyncio import AsyncServiceInfo

from lightbus.adapters.mdns.discovery import SERVICE_TYPE, instance_name
from lightbus.adapters.mdns.intake import MDNS_PORT
from lightbus.adapters.mdns.multicast_group import MDNS_GROUP
from lightbus.wire.announcement import Announcement

COUNT, RATE = int(os.environ["COUNT"]), float(os.environ["RATE"])
WHAT = os.environ.get("WHAT", "announcements")
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
    if WHAT == "questions":
        out = DNSOutgoing(const._FLAGS_QR_QUERY)
        out.add_question(DNSQuestion(SERVICE_TYPE, const._TYPE_PTR, const._CLASS_IN))
        out.add_authorative_answer(info.dns_pointer())  # a probe, which is answered at once
    else:
        out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
        pointer = info.dns_pointer()
        if WHAT == "goodbyes":
            pointer.ttl = 0
        for record in [pointer, info.dns_service(), info.dns_text(), *info.dns_addresses()]:
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
    sender.bind((os.environ["ADDRESS"], MDNS_PORT))  # what comes from another port is ignored: RFC 6762 section 6
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(os.environ["ADDRESS"]))
    began = time.monotonic()
    for sent, each in enumerate(forever()):
        sender.sendto(each, (MDNS_GROUP, MDNS_PORT))
        time.sleep(max(0.0, began + sent / RATE - time.monotonic()))
