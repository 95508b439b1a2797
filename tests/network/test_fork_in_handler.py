"""Forks by the user's functions: a child that returns from one ends there, and its parent continues."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightbus
from helpers import Process, Processes, wait_until
from lightbus import BusPath


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a caller's bus."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


FORKER = '''
import asyncio, os, sys
import lightbus
from pathlib import Path

bus = lightbus.create(service_name="forker")
HERE = os.getpid()
CODES = Path(os.environ["CODES"])

def leave(how):
    """What a child does, which believes itself to be a program of its own."""
    print("a child", flush=True)
    if how == "exit": sys.exit(3)
    if how == "text": sys.exit("gone")
    if how == "raise": raise ValueError("in the child")
    return how

def child_of(where, how):
    """Fork; in the parent note how the child ended."""
    pid = os.fork()
    if pid == 0:
        return leave(how)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with CODES.open("a") as file: print(where, code, file=file)
    return code

def fork(how): return child_of("call", how)
async def fork_async(how):
    never = asyncio.get_running_loop().create_future()
    pid = os.fork()
    if pid == 0:
        if how == "wait": await never
        return leave(how)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
async def fork_later(how):
    await asyncio.sleep(0)
    return await fork_async(how)
async def fork_in_task(how): return await asyncio.create_task(fork_async(how))

class Api(lightbus.Api):
    done = lightbus.Event(["how"])
    class Meta: name = "forker"
    def pid(self): return os.getpid()
    def fork(self, how: str) -> int: return fork(how)
    async def fork_async(self, how: str) -> int: return await fork_async(how)
    async def fork_later(self, how: str) -> int: return await fork_later(how)
    async def fork_in_task(self, how: str) -> int: return await fork_in_task(how)

bus.client.register_api(Api())

def heard(event): child_of("def listener", event.kwargs["how"])
async def heard_async(event): child_of("async listener", event.kwargs["how"])
async def heard_later(event):
    await asyncio.sleep(0)
    child_of("late listener", event.kwargs["how"])
bus.forker.done.listen(heard, listener_name="def")
bus.forker.done.listen(heard_async, listener_name="async")
bus.forker.done.listen(heard_later, listener_name="late")

@bus.client.on_start()
def start(): child_of("def hook", "exit")
@bus.client.on_start()
async def start_async(): child_of("async hook", "exit")
@bus.client.every(seconds=3600, also_run_immediately=True)
def scheduled(): child_of("schedule", "exit")
async def background(): child_of("background", "exit")
bus.client.add_background_task(background())
'''


STARTED = 4
"""Lines that its hooks, its schedule and its background task write."""


@pytest.fixture
def forker(processes: Processes, tmp_path: Path) -> Process:
    """Start a worker whose functions fork, and whose children return from them."""
    (tmp_path / "forker.py").write_text(FORKER)
    worker = processes.worker("forker", cwd=tmp_path, env={"CODES": str(tmp_path / "codes")})
    worker.wait_for_line("Ready")
    wait_until(lambda: len((tmp_path / "codes").read_text().splitlines()) == STARTED)
    return worker


@pytest.mark.parametrize("procedure", ["fork", "fork_async", "fork_later", "fork_in_task"])
def test_a_child_that_leaves_a_procedure_ends(bus: BusPath, forker: Process, procedure: str) -> None:
    """Whether it exits, raises or returns: the child ends with the matching code, and its parent answers."""
    pid = bus.forker.pid()
    codes = {"exit": 3, "text": 1, "raise": 1, "return": 0}
    if procedure == "fork_in_task":
        codes["raise"] = 0  # the task has it, and nobody awaits that
    found = {how: getattr(bus.forker, procedure)(how=how) for how in codes}
    assert found == codes
    assert bus.forker.pid() == pid
    forker.signal(signal.SIGTERM)
    assert forker.wait() == 0


def test_a_child_that_waits_on_its_parents_loop_ends(bus: BusPath, forker: Process) -> None:
    """A child of an `async def` has no loop to wait on: it ends, or its parent would wait for ever."""
    assert bus.forker.fork_async(how="wait") == 0
    assert bus.forker.fork_in_task(how="wait") == 0


def test_a_child_that_leaves_other_functions_ends(bus: BusPath, forker: Process, tmp_path: Path) -> None:
    """The same for listeners, hooks, schedules and background tasks; the parent gets each event once."""
    started = ["def hook 3", "async hook 3", "schedule 3", "background 3"]
    for how in ("exit", "raise", "return"):
        bus.forker.done.fire(how=how)
    listeners = [f"{kind} listener {code}" for kind in ("def", "async", "late") for code in (3, 1, 0)]
    wait_until(lambda: len((tmp_path / "codes").read_text().splitlines()) >= len(started + listeners))
    assert sorted((tmp_path / "codes").read_text().splitlines()) == sorted(started + listeners)
    forker.signal(signal.SIGTERM)
    assert forker.wait() == 0


AT_ONCE = """
import asyncio, os, threading, time
import lightbus
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.client import process_hooks

process_hooks.FORK_PATIENCE = 3600  # who waits in vain does so for longer than the call
bus = lightbus.create(service_name="forker")

def child():
    pid = os.fork()
    if pid == 0:
        assert bus.client.config  # it goes on with its own
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

class Api(lightbus.Api):
    class Meta: name = "forker"
    async def beside_the_loop(self) -> list[int]:
        codes = []
        thread = threading.Thread(target=lambda: codes.append(child()))
        thread.start()
        while not (HostOutbox.lock.locked() or codes): time.sleep(0.001)  # the other one waits for this loop now
        codes.append(child())
        await asyncio.to_thread(thread.join)
        return codes
    async def of_threads(self) -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(child) for _ in range(3)))

bus.client.register_api(Api())
"""


def test_forks_at_the_same_time(processes: Processes, tmp_path: Path, bus: BusPath) -> None:
    """Threads that fork at the same time do not wait for each other's end, even if one of them is the worker's own."""
    (tmp_path / "at_once.py").write_text(AT_ONCE)
    worker = processes.worker("at_once", cwd=tmp_path)
    worker.wait_for_line("Ready")
    for _ in range(3):
        assert bus.forker.beside_the_loop() == [7, 7]
        assert bus.forker.of_threads() == [7, 7, 7]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
