"""Calls per second of raw DEALER and ROUTER, with one to four frames in a message."""

from __future__ import annotations

import multiprocessing
import time

import zmq


def serve(port: int, frames: int) -> None:
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(f"tcp://127.0.0.1:{port}")
    while True:
        parts = [router.recv() for _ in range(1 + frames)]
        for part in parts[:-1]:
            router.send(part, zmq.SNDMORE)
        router.send(parts[-1])


def calls_per_second(port: int, frames: int, calls: int = 50_000, in_flight: int = 100) -> float:
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    part = b"x" * (64 // frames)

    def send() -> None:
        for _ in range(frames - 1):
            dealer.send(part, zmq.SNDMORE)
        dealer.send(part)

    for _ in range(in_flight):
        send()
    began = time.perf_counter()
    for _ in range(calls):
        for _ in range(frames):
            dealer.recv()
        send()
    return calls / (time.perf_counter() - began)


if __name__ == "__main__":
    for frames in (1, 2, 3, 4):
        arguments = (20_900 + frames, frames)
        server = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
        server.start()
        print(frames, round(calls_per_second(*arguments)))
        server.terminate()
