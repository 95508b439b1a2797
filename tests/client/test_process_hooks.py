"""Clients at a fork and at the exit of the process: what is paused, dropped and closed."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import lightbus
from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.client.process_hooks import _CLIENTS
from lightbus.testing import MemoryBus


def test_client_counts_until_it_is_collected() -> None:
    """A collected client is neither paused at a fork nor closed at the exit."""
    bus = lightbus.create(service_name="short-lived")
    client = weakref.ref(bus.client)
    there = bus.client._in_process
    assert there in _CLIENTS
    entry = weakref.ref(there)
    del bus, there
    gc.collect()
    assert client() is None
    assert entry() is None


def test_client_is_paused_during_a_fork(served: BusPath) -> None:
    """While a client is paused no engine or worker of it can be made; afterwards it serves as before."""
    there = served.client._in_process
    assert there.has_worker
    resume = there.pause(2.0)
    lock = served.client._engines.lock
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert taken == [False]
    for proceed in resume:
        proceed()
    assert served.auth.check_password(username="sally", password="secret") is True


def test_forked_child_of_a_worker_has_no_worker(hub: MemoryBus) -> None:
    """A forked child has neither the engine nor the worker of its parent, which keeps running."""
    bus = hub.create(service_name="forks")
    bus.client.register_api(AuthApi())
    bus.client.start_in_background()
    child = os.fork()
    if child == 0:
        client = bus.client
        is_fresh = client.worker is None and client._engines.opened is None and client._lifecycle.thread is None
        os._exit(0 if is_fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bus.client.is_worker
    assert bus.auth.check_password(username="sally", password="secret") is True
