"""The reference's events: `raw_events publish SUBSCRIBERS COUNT` and `raw_events subscribe ENDPOINT COUNT`."""

from __future__ import annotations

import sys
from time import monotonic

import msgpack
import zmq

from .measure import EVENT, tell

TOPIC = b"auth.user_registered"


def publish(subscribers: int, count: int) -> None:
    """Publish `count` events once there are this many subscriptions, which an XPUB, unlike a PUB, reports."""
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    publisher.set(zmq.SNDHWM, 0)  # nothing is dropped: all of it is measured
    publisher.set(zmq.XPUB_VERBOSE, 1)
    tell({"endpoint": f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"})
    for _ in range(subscribers):
        publisher.recv()
    for _ in range(count):
        publisher.send_multipart([TOPIC, msgpack.packb(EVENT)])
    publisher.close()
    context.term()  # waits until everything is sent


def subscribe(endpoint: str, count: int) -> None:
    """Receive `count` events; print the times of the first and the last, on the clock that all processes share."""
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.set(zmq.RCVHWM, 0)
    subscriber.set(zmq.SUBSCRIBE, TOPIC)
    subscriber.connect(endpoint)
    first = 0.0
    for _ in range(count):
        _, body = subscriber.recv_multipart()
        first = first or monotonic()
        msgpack.unpackb(body)
    tell({"received": count, "first": first, "last": monotonic()})


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish(int(sys.argv[2]), int(sys.argv[3]))
    else:
        subscribe(sys.argv[2], int(sys.argv[3]))
