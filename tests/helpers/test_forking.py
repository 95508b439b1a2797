from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import closing
from pathlib import Path

import coverage
import pytest

from helpers import Processes
from helpers.forking import ForkServer
from helpers.leaks import RESIDENT
from helpers.surroundings import Surroundings
from lightbus.config.keys import BusKey

MODULE = """
import json, os, random, sys

print(json.dumps({
    "argv": sys.argv[1:], "path": sys.path[0], "cwd": os.getcwd(), "bus": os.environ["LIGHTBUS_BUS"],
    "more": os.environ.get("MORE"), "parent": os.getppid(), "group": os.getpgid(0) == os.getpid(),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "random": random.random(),
    "main": sys.modules["__main__"].__spec__.name,
}))
os._exit(3)
"""

WORKER = """
import lightbus
from lightbus import Api, Event

bus = lightbus.create()

class Shop(Api):
    sold = Event(["number"])

    class Meta:
        name = "shop"

bus.client.register_api(Shop())
"""

WATCHED = """
import runpy, sys

there = set(sys.modules)
try:
    runpy.run_module("lightbus", run_name="__main__", alter_sys=True)
finally:
    print("anew:", *sorted(name for name in set(sys.modules) - there if name.startswith("lightbus")))
"""


@pytest.fixture
def anew(tmp_path: Path) -> Processes:
    """Return a function that starts each program in a new interpreter."""
    (tmp_path / "anew").mkdir()
    return Processes(tmp_path / "anew")


def test_a_copy_equals_a_new_interpreter(
    processes: Processes, anew: Processes, surroundings: Surroundings, tmp_path: Path
) -> None:
    """Only its random state is its own."""
    (tmp_path / "told.py").write_text(MODULE)
    told = []
    for each in (processes, anew, processes):
        process = each.worker("told", "--service-name", "x", cwd=tmp_path, env={"MORE": "yes"})
        assert process.wait() == 3, process.report()
        told.append(json.loads(process.stdout))
    randomness = [each.pop("random") for each in told]
    assert told[0] == told[1] == told[2]
    assert len(set(randomness)) == 3
    assert (told[0]["bus"], told[0]["parent"], told[0]["group"]) == (surroundings.bus, os.getpid(), True)


@pytest.mark.parametrize("key", ["", BusKey.generate().text], ids=["no key", "key"])
def test_a_copied_worker_imports_no_module_of_ours(processes: Processes, tmp_path: Path, key: str) -> None:
    """Each import in each of them would delay all tests that start one."""
    (tmp_path / "shop.py").write_text(WORKER)
    env = {"LIGHTBUS_INTERFACES": "127.0.0.1", "LIGHTBUS_BUS_KEY": key} if key else {}
    worker = processes.python("-c", WATCHED, "run", "--bus", "shop", cwd=tmp_path, env=env)
    worker.wait_for_line("Ready")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.stdout == "anew:\n"


def test_orphans_of_a_copy_are_not_our_children(processes: Processes) -> None:
    """A process that a program leaves behind is not adopted by us."""
    code = "import os; print(os.posix_spawnp('sleep', ['sleep', '60'], os.environ, setsid=True))"
    parent = processes.python("-c", code)
    assert parent.wait() == 0
    orphan = int(parent.stdout)
    status = Path(f"/proc/{orphan}/status").read_text()
    os.kill(orphan, signal.SIGKILL)
    assert f"\nPPid:\t{os.getpid()}\n" not in status


THREADS = """
import _thread, os, signal, threading
heard = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: heard.set())
main = threading.main_thread()
sender = threading.Thread(target=signal.pthread_kill, args=[main.ident, signal.SIGUSR1])
sender.start()
sender.join()
heard.wait()
print(os.getpid() == threading.get_native_id())
"""


def test_a_copy_knows_its_threads(processes: Processes) -> None:
    """The C library does, too: one thread can signal another."""
    process = processes.python("-c", THREADS)
    assert process.wait() == 0, process.report()
    assert process.stdout == "True\n"


def test_a_signal_ends_a_copy(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time; print('up'); time.sleep(60)")
    process = processes.worker("waits", cwd=tmp_path)
    process.wait_for_line("up")
    assert process.running
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


TOLD = """
import json, sys
main = sys.modules["__main__"]
told = {"argv": sys.argv, "path": sys.path[0], "name": __name__, "file": globals().get("__file__")}
print(json.dumps({**told, "is main": vars(main) is globals()}))
"""

OBJECTS = re.compile(r"0x[0-9a-f]+|^\S+:\d+: |^  (vars|self)\b.*\n|^RuntimeWarning: Enable .*\n", re.MULTILINE)
"""What differs from one run to the next: where objects are, and in whose line they were found to be forgotten."""


def test_code_and_scripts_in_a_copy(processes: Processes, anew: Processes, tmp_path: Path) -> None:
    """They see what they would see in a new interpreter."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "script.py").write_text(TOLD)
    for argv in (["-c", TOLD, "one"], ["sub/script.py", "-c", "two"], [str(tmp_path / "sub" / "script.py")]):
        told = []
        for each in (processes, anew):
            process = each.python(*argv, cwd=tmp_path)
            assert process.wait() == 0, process.report()
            told.append(json.loads(process.stdout))
        assert told[0] == told[1]


ENDINGS = {
    "nothing": "pass",
    "exit code": "raise SystemExit(7)",
    "large exit code": "raise SystemExit(258)",
    "words": "raise SystemExit('it is over')",
    "exception": "def fail():\n    raise ValueError('no')\nfail()",
    "no syntax": "1 +",
    "interrupt": "raise KeyboardInterrupt",
    "at once": "import os; os._exit(3)",
    "exit function": "import atexit; atexit.register(print, 'last'); print('first', end=' ')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()",
    "never awaited": "async def run(): pass\nkept = run()",
    "task": "import asyncio\nloop = asyncio.new_event_loop()\nkept = loop.create_task(asyncio.sleep(1), name='t')",
    "daemon": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start(); print('up')",
}


@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS)
def test_a_copy_ends_as_a_new_interpreter_does(processes: Processes, anew: Processes, code: str) -> None:
    """With the same exit code, and the same messages."""
    if "task" in code and os.environ.get("PYTHONDEVMODE"):
        pytest.skip("development mode names the lines that made the task, which are others in a copy")
    told = []
    for each in (processes, anew):
        each.forgive()
        process = each.python("-c", code)
        told.append((process.wait(), process.stdout, OBJECTS.sub("", process.stderr)))
    assert told[0] == told[1]


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the variables by which a program is measured."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # where we are measured ourselves
    settings = tmp_path / "measured.ini"
    settings.write_text("[run]\nbranch = true\nparallel = true\nsource_pkgs = lightbus\npatch = _exit\n")
    return {"COVERAGE_PROCESS_START": str(settings), "COVERAGE_FILE": str(tmp_path / "found")}


USES_A_PHRASE = "from lightbus.phrases import with_article; with_article('int')"


def _phrase_was_measured(directory: Path) -> None:
    [found] = directory.glob("found.*")
    data = coverage.CoverageData(str(found))
    data.read()
    assert [Path(name).name for name in data.measured_files() if data.lines(name)] == ["phrases.py"]
    found.unlink()


def test_a_copy_is_measured_if_its_environment_says_so(
    processes: Processes, tmp_path: Path, measured: dict[str, str]
) -> None:
    """Coverage records its code, as in a new interpreter with its hook."""
    process = processes.python("-c", USES_A_PHRASE, env=measured)
    assert process.wait() == 0, process.report()
    _phrase_was_measured(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="there are no copies elsewhere")
def test_copies_of_a_measured_run(
    processes: Processes, tmp_path: Path, measured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writes a file of its own, also if it ends at once; an unmeasured one writes none."""
    for name, value in measured.items():
        monkeypatch.setenv(name, value)
    with closing(ForkServer()) as server:
        RESIDENT.add(server.pid)
        copies = Processes(tmp_path, server)
        for ending in ("", "; import os; os._exit(0)"):
            process = copies.python("-c", USES_A_PHRASE + ending)
            assert process.wait() == 0, process.report()
            assert process.output == ""
            _phrase_was_measured(tmp_path)
        monkeypatch.delenv("COVERAGE_PROCESS_START")
        assert copies.python("-c", USES_A_PHRASE).wait() == 0
    RESIDENT.discard(server.pid)
    assert [*tmp_path.glob("found.*")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="there are no copies elsewhere")
def test_programs_in_new_interpreters(fork_server: ForkServer) -> None:
    """Another program, and an interpreter with other settings."""
    env, command = dict(os.environ, PYTHONUNBUFFERED="1"), [sys.executable, "-m", "lightbus", "version"]
    assert fork_server.can_start(command, env)
    assert fork_server.can_start([sys.executable, "-c", "pass"], env)
    assert not fork_server.can_start([sys.executable, "-W", "error", "-c", "pass"], env)
    assert not fork_server.can_start(["/bin/sh", "-c", "true"], env)
    assert not fork_server.can_start([sys.executable], env)
    other_mode = "" if env.get("PYTHONDEVMODE") else "1"
    assert not fork_server.can_start(command, {**env, "PYTHONDEVMODE": other_mode})
    assert not fork_server.can_start(command, {**env, "TZ": "UTC+3"})
