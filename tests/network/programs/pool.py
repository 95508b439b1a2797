"""A worker with a pool of forked processes, as one has for heavy computing: they inherit its open sockets."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import lightbus
from lightbus import Api

bus = lightbus.create(service_name="pool")


class PoolApi(Api):
    class Meta:
        name = "pool"

    def __init__(self) -> None:
        self._pool: Any = None

    def who(self) -> int:
        return os.getpid()

    def crunch(self, number: int) -> int:
        """Compute something in another process, which is forked now: the worker has its sockets open."""
        if self._pool is None:
            self._pool = multiprocessing.get_context("fork").Pool(3)
            for _ in range(2):  # have two of them busy, or they would notice that their parent is gone
                self._pool.apply_async(time.sleep, [60])
        return int(self._pool.apply(abs, [number]))

    def hold(self, seconds: float) -> None:
        print("holding", flush=True)
        time.sleep(seconds)


bus.client.register_api(PoolApi())
