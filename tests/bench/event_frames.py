"""Events per second of raw PUB and SUB, with one and two frames in a message."""

from __future__ import annotations

import multiprocessing
import time

import zmq

COUNT = 200_000


def publish(port: int, frames: int) -> None:
    xpub = zmq.Context().socket(zmq.XPUB)
    xpub.set(zmq.SNDHWM, 0)
    xpub.bind(f"tcp://127.0.0.1:{port}")
    xpub.recv()
    topic, body = b"auth\0user_registered\0" + b"04\0", b"x" * 100
    for _ in range(COUNT):
        if frames == 1:
            xpub.send(topic + body)
        else:
            xpub.send(topic, zmq.SNDMORE)
            xpub.send(body)
    time.sleep(10)


def events_per_second(port: int, frames: int) -> float:
    sub = zmq.Context().socket(zmq.SUB)
    sub.set(zmq.RCVHWM, 0)
    sub.subscribe(b"auth\0")
    sub.connect(f"tcp://127.0.0.1:{port}")
    for _ in range(frames):
        sub.recv()
    began = time.perf_counter()
    for _ in range((COUNT - 1) * frames):
        sub.recv()
    return COUNT / (time.perf_counter() - began)


if __name__ == "__main__":
    for frames in (1, 2):
        arguments = (20_910 + frames, frames)
        server = multiprocessing.get_context("spawn").Process(target=publish, args=arguments, daemon=True)
        server.start()
        print(frames, round(events_per_second(*arguments)))
        server.terminate()
