"""Forks: a child has its own bus, its parent continues, and inherited sockets of orphans delay no process."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightbus
from helpers import Door, Process, Processes, Stopwatch, wait_until
from lightbus import BusPath, PeerLost

PROGRAMS = Path(__file__).parent / "programs"

HEARTBEAT_TIMEOUT = 3.0
"""Seconds of silence after which a connection counts as broken: the default."""


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a caller's bus."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


@pytest.fixture
def worker(processes: Processes) -> Process:
    """Start a worker of the API `work`."""
    worker = processes.worker("work", cwd=PROGRAMS)
    worker.wait_for_line("Ready")
    return worker


CALL = {
    "sync": "def call(value): return bus.work.echo(value=value)",
    "async": "import asyncio\ndef call(value): return asyncio.run(bus.work.echo.call_async(value=value))",
}

CHILD = """
from work import bus
import os, sys
{call}
assert call(0) == 0
parent = bus.client.engine.identity
for number in range(3):
    child = os.fork()
    if child == 0:
        assert call("child") == "child"
        assert bus.client.engine.identity.instance != parent.instance
        assert bus.client.engine.identity.pid == os.getpid()
        {leave}
    assert call(number) == number  # while the child is there
    assert os.waitpid(child, 0)[1] == 0
    assert call(number) == number  # and after it closed its bus
assert bus.client.engine.identity is parent
"""


@pytest.mark.parametrize("leave", ["sys.exit()", "os._exit(0)", "bus.client.close(); sys.exit()"])
@pytest.mark.parametrize("door", CALL)
def test_fork_after_use(processes: Processes, worker: Process, door: str, leave: str) -> None:
    """A child forked from a process that has made calls can make calls, with its own instance; its parent continues."""
    script = processes.python("-c", CHILD.format(call=CALL[door], leave=leave), cwd=PROGRAMS)
    assert script.wait() == 0
    assert script.output == ""


def test_fork_while_threads_call(processes: Processes, worker: Process) -> None:
    """A fork during calls of other threads leaves no locked lock in the child."""
    code = """
from work import bus
import os, sys, threading
stop = False
def run():
    while not stop:
        assert bus.work.echo(value=1) == 1
bus.client.wait_for_apis("work", timeout=60)
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads: thread.start()
children = []
for number in range(10):
    child = os.fork()
    if child == 0:
        bus.client.wait_for_apis("work", timeout=60)  # ten processes at once need longer than one
        assert bus.work.echo(value=number) == number
        os._exit(0)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
stop = True
for thread in threads: thread.join()
assert codes == [0] * 10, codes
"""
    script = processes.python("-W", "ignore", "-c", code, cwd=PROGRAMS)
    assert script.wait(60) == 0
    assert script.output == ""


def test_forked_pool_that_calls(processes: Processes, worker: Process) -> None:
    """The processes of a multiprocessing pool, forked after a call, make calls."""
    code = """
from work import bus
import multiprocessing
def call(number):
    return bus.work.echo(value=number)
assert call(1) == 1
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(call, range(30)) == list(range(30))
assert call(2) == 2
"""
    script = processes.python("-c", code, cwd=PROGRAMS)
    assert script.wait() == 0
    assert script.output == ""


@pytest.fixture(params=["ipc", "tcp"])
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test over files of this host, and over TCP: the kernel keeps both open for processes with copies."""
    if request.param == "tcp":
        monkeypatch.setenv("LIGHTBUS_SECURITY", "insecure")
        monkeypatch.setenv("LIGHTBUS_INTERFACES", "127.0.0.1")


@pytest.mark.long
def test_orphans_delay_no_call(processes: Processes, network: None, bus: BusPath, door: Door) -> None:
    """
    A worker is killed, and the processes of its pool keep its sockets open.

    Its running calls fail when its heartbeats are missed; all other calls are answered by the other worker.
    """
    first, second = (processes.worker("pool", cwd=PROGRAMS) for _ in range(2))
    for worker in (first, second):
        worker.wait_for_line("Ready")
    wait_until(lambda: {door.call(bus.pool.who) for _ in range(10)} == {first.pid, second.pid})
    bus.client.wait_for_apis("pool")
    snapshot = bus.client.engine.snapshot
    instances = {
        door.call(bus.pool.who, bus_options={"peer": peer.instance}): peer.instance for peer in snapshot.by_api["pool"]
    }
    assert door.call(bus.pool.crunch, number=-7, bus_options={"peer": instances[first.pid]}) == 7

    holding = processes.python(
        "-c",
        f"import time; from pool import bus; bus.client.wait_for_apis('pool')\n"
        f"while not bus.client.engine.snapshot.is_up({instances[first.pid]!r}): time.sleep(0.01)\n"
        f"bus.pool.hold(seconds=60, bus_options={{'timeout': 60, 'peer': {instances[first.pid]!r}}})",
        cwd=PROGRAMS,
    )
    first.wait_for_line("^holding$")
    first.kill()
    watch = Stopwatch()
    assert _orphans_of(first), "the pool's processes live on"

    failed = 0
    while watch.elapsed < HEARTBEAT_TIMEOUT + 2:
        try:
            assert door.call(bus.pool.who) == second.pid
        except PeerLost:
            failed += 1
            assert watch.seconds < HEARTBEAT_TIMEOUT + 1.5
        if failed:
            break
    assert holding.wait(HEARTBEAT_TIMEOUT) == 1
    assert "lightbus.exceptions.PeerLost: pool " in holding.stderr
    assert [door.call(bus.pool.who) for _ in range(20)] == [second.pid] * 20

    newcomer = lightbus.create(service_name="newcomer")
    try:
        watch = Stopwatch()
        assert door.call(newcomer.pool.who) == second.pid
        assert watch.seconds < 2.5
    finally:
        newcomer.client.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_workers_that_gunicorn_forks_after_a_call_make_calls(
    processes: Processes, worker: Process, threads: int
) -> None:
    """Workers that gunicorn forks from a process that has made calls can make calls, too, and end in order."""
    gunicorn = processes.start(
        [
            sys.executable,
            "-Wignore:unclosed <socket.socket:ResourceWarning",  # its workers leave the one that it listens at
            "-m",
            "gunicorn",
            "--preload",
            "-w",
            "2",
            f"--threads={threads}",
            "-b",
            "127.0.0.1:0",
            "web:app",
        ],
        cwd=PROGRAMS,
        name="gunicorn",
    )
    url = gunicorn.wait_for_line(r"Listening at: (http://127\.0\.0\.1:\d+)", 20)[1]
    served: set[int] = set()

    def ask(number: int) -> None:
        path = ("sync", "async")[number % 2]
        with urllib.request.urlopen(f"{url}/{path}/{number}", timeout=120) as response:
            answer = json.load(response)
        assert answer["number"] == number
        assert answer["worker"] == worker.pid
        served.add(answer["web"])

    for number in range(40):
        ask(number)
    wait_until(lambda: ask(1) or len(served) == 2, what="both of gunicorn's workers served")
    gunicorn.signal(signal.SIGTERM)
    assert gunicorn.wait() == 0
    assert "Traceback" not in gunicorn.output
    assert worker.running


PRELOADED = """
import os, sys
import gunicorn.arbiter
import lightbus
from lightbus import Api

bus = lightbus.create(service_name="preloaded")

class WhoApi(Api):
    class Meta:
        name = "who"

    def pid(self) -> int:
        return os.getpid()

bus.client.register_api(WhoApi())
bus.client.start_in_background()
ends = []
for number in range(2):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        assert not bus.client.is_worker
        bus.client.start_in_background()
        assert bus.who.pid() > 0
        print("serves", flush=True)
        os.close(theirs)
        for end in ends:
            os.close(end)
        os.read(ours, 1)
        sys.exit()
    os.close(ours)
    ends.append(theirs)
seen = lightbus.create(service_name="caller")
seen.client.wait_for_apis("who")
while len(seen.client.engine.snapshot.by_api["who"]) < 3:
    seen.who.pid()
print("all three serve", flush=True)
for end in ends:
    os.close(end)
    assert os.wait()[1] == 0
"""


def test_worker_in_the_background_of_a_preloaded_program(processes: Processes) -> None:
    """It stays in the process that was imported, with one log message; each forked process may have its own."""
    program = processes.python("-c", PRELOADED)
    assert program.wait(60) == 0
    assert sorted(program.stdout.splitlines()) == ["all three serve", "serves", "serves"]
    assert program.stderr.count("The worker stays here") == 1
    assert "post_fork of gunicorn.conf.py" in program.stderr


def _orphans_of(process: Process) -> list[int]:
    """Return the processes of the group that an ended process led."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == process.pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


VIDEO = """
import multiprocessing, os, signal, subprocess, sys, time
import lightbus

bus = lightbus.create(service_name="video")

def work():
    time.sleep(60)

class VideoApi(lightbus.Api):
    class Meta:
        name = "video"

    def process(self, method: str, number: int) -> int:
        child = multiprocessing.get_context(method).Process(target=work)
        child.start()
        time.sleep(0.3 if method == "fork" else 2)
        os.kill(child.pid, number)
        child.join(60)
        code = child.exitcode
        child.kill()
        child.join()
        return code

    async def fork(self, number: int) -> int:
        child = os.fork()
        if child == 0:
            while True:
                time.sleep(1)
        os.kill(child, number)  # at once, whether the child has run or not
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def prepared(self, number: int) -> int:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=os.getpid)
        child.send_signal(number)
        return child.wait(60)

    def handlers(self) -> str:
        read, write = os.pipe()
        if os.fork() == 0:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            found = [signal.getsignal(signal.SIGTERM).name, signal.getsignal(signal.SIGINT).__name__]
            os.write(write, repr([*found, signal.set_wakeup_fd(-1), len(mask)]).encode())
            os._exit(0)
        os.wait()
        return os.read(read, 1000).decode()

bus.client.register_api(VideoApi())
"""

EMBEDDED = """
import asyncio, signal
from bus import bus

async def main():
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await bus.client.start_worker()
    print("Ready", flush=True)
    await stopping.wait()
    await bus.client.close_async()

asyncio.run(main())
"""


@pytest.fixture(params=["lightbus run", "a program's own loop"])
def video(request: pytest.FixtureRequest, processes: Processes, tmp_path: Path) -> Process:
    """Start a worker whose procedures start processes, and end them."""
    (tmp_path / "bus.py").write_text(VIDEO)
    if request.param == "lightbus run":
        worker = processes.worker("bus", cwd=tmp_path)
    else:
        worker = processes.python("-W", "ignore", "-c", EMBEDDED, cwd=tmp_path)
    worker.wait_for_line("Ready")
    return worker


def test_a_signal_to_a_child_ends_the_child_alone(bus: BusPath, video: Process) -> None:
    """`terminate()` ends any kind of child at once; its parent continues, and gets its own signals."""
    patience = {"timeout": 30}
    assert bus.video.process(method="fork", number=signal.SIGTERM, bus_options=patience) == -signal.SIGTERM
    assert bus.video.process(method="spawn", number=signal.SIGTERM, bus_options=patience) == -signal.SIGTERM
    for _ in range(5):
        assert bus.video.fork(number=signal.SIGTERM, bus_options=patience) == -signal.SIGTERM
    assert bus.video.prepared(number=signal.SIGTERM, bus_options=patience) == -signal.SIGTERM
    assert bus.video.process(method="fork", number=signal.SIGINT, bus_options=patience) == 1  # KeyboardInterrupt
    assert video.running
    video.signal(signal.SIGTERM)
    assert video.wait() == 0


def test_a_child_has_no_signal_handlers_of_its_parent(bus: BusPath, video: Process) -> None:
    """It has neither handlers nor the descriptor that wakes the parent's loop, and no signal is blocked."""
    assert bus.video.handlers() == "['SIG_DFL', 'default_int_handler', -1, 0]"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("where", ["before", "after_in_child"])
def test_a_signal_that_comes_during_a_fork(processes: Processes, tmp_path: Path, number: str, where: str) -> None:
    """An exception of its handler is raised from the fork, in the child or in the parent, and is not lost."""
    code = """
import os, signal, sys, time
number, where = getattr(signal, sys.argv[1]), sys.argv[2]
os.register_at_fork(**{where: lambda: os.kill(os.getpid(), number)})  # after the library's hold, before its end
import lightbus

class Ended(BaseException): pass

def end(number, frame):
    raise Ended

signal.signal(number, end)
bus = lightbus.create()
engine = bus.client.engine
child = None
try:
    child = os.fork()
    if child == 0 and where == "before":
        os._exit(0)
    if child != 0 and where == "after_in_child":
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    time.sleep(30)
except Ended:
    if child == 0:
        os._exit(3 if bus.client._engines.opened is None else 4)
    sys.exit(5)
"""
    script = processes.python("-W", "ignore", "-c", code, number, where, cwd=tmp_path)
    assert script.wait(60) == {"before": 5, "after_in_child": 3}[where]
    assert script.output == ""


def test_signal_handlers_are_restored(processes: Processes, tmp_path: Path) -> None:
    """When `run_forever` returns, a program has its former signal handlers."""
    code = """
import os, signal, threading
import lightbus
def mine(*_): pass
signal.signal(signal.SIGTERM, mine)
bus = lightbus.create()
@bus.client.on_start()
def on_start():
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
assert bus.client.run_forever() == 0
assert signal.getsignal(signal.SIGTERM) is mine
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    script = processes.python("-c", code, cwd=tmp_path)
    assert script.wait() == 0
    assert script.output == ""
