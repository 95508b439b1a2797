"""`lightbus demo`: its output, its failures, and that it leaves nothing running."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner

from helpers import Process, Processes, Stopwatch, wait_until
from helpers.scale import PATIENCE
from helpers.surroundings import Surroundings
from lightbus.cli import _group
from lightbus.cli.demo_services import workers as demo_workers
from lightbus.cli.demo_services.lines import Lines, spelled
from lightbus.cli.demo_services.workers import SERVICES, Workers

ENDPOINT = r"ipc://\S+"


def pids_in(output: str) -> list[int]:
    """Return the process ids that the demo shows of its workers."""
    return [int(pid) for pid in re.findall(r"process (\d+), found by", output)]


def runs(pid: int) -> bool:
    """Return whether there is such a process, and it has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def as_pattern(line: str) -> str:
    """Return the expected line as an expression: `<endpoint>`, `<ms>` and `<pid>` stand for what differs each time."""
    parts = {"<endpoint>": ENDPOINT, "<ms>": r"\d+\.\d", "<pid>": r"\d+", "<s>": r"\d+\.\d", "<bus>": r"demo-\w{6}"}
    return re.sub(r"\\?<\w+\\?>", lambda found: parts[found[0].replace("\\", "")], re.escape(line))


STORY = """\
demo starts two workers and a client on the bus <bus> on this host, no broker
auth announces auth.check_password(), auth.create_user(), event auth.user_registered
process <pid>, found by discovery, answers at <endpoint>
customers announces event customers.new_customer
process <pid>, found by discovery, answers at <endpoint>
client resolves auth.check_password -> auth
at <endpoint>
client calls auth.check_password(user='admin', password='secret') -> True in <ms> ms connecting included
client calls auth.check_password(user='admin', password='guess') -> False in <ms> ms
client fires customers.new_customer(customer_name='Sally', email='sally@example.com')
taken by customers in <ms> ms
auth hears customers.new_customer(customer_name='Sally', email='sally@example.com') -> bus.create_user_for_customer
from customers, <ms> ms after firing
auth calls auth.create_user(name='Sally', email='sally@example.com')
resolved to <endpoint>
auth fired auth.user_registered(user='Sally', email='sally@example.com')
auth served auth.create_user(name='Sally', email='sally@example.com') -> None
auth got reply None of auth.create_user in <ms> ms
customers hears auth.user_registered(user='Sally', email='sally@example.com') -> bus.welcome_user
demo ends after <s> s nothing is left running
"""


def test_demo_shows_a_call_and_an_event_and_ends(processes: Processes, surroundings: Surroundings) -> None:
    """Announcements, a call with its time, an event with its effects, consistently; exit code 0 in under 15 s."""
    watch = Stopwatch()
    demo = processes.lightbus("demo")
    assert demo.wait(60) == 0
    assert watch.seconds < 15.0 * PATIENCE
    shown = " ".join(demo.stdout.split())  # where a line is broken depends on the length of the endpoints
    for expected in STORY.splitlines():
        assert re.search(as_pattern(expected), shown), (expected, demo.report())
    assert leads_where_it_says(demo.stdout), demo.report()
    assert "\x1b" not in shown  # no terminal, no colour
    assert list((surroundings.runtime / "lightbus").iterdir()) == []
    assert len(pids_in(demo.stdout)) == 2
    assert not any(runs(pid) for pid in pids_in(demo.stdout))
    assert demo.stderr == ""


def leads_where_it_says(shown: str) -> bool:
    """Return whether the callee's endpoint is the one it answers at, and each subscription leads to the publisher."""
    auth, customers = re.findall(rf"answers at ({ENDPOINT})\.rpc", shown)
    subscribed = re.findall(rf"subscribed at ({ENDPOINT})\.pub", shown)
    resolved = set(re.findall(rf"(?:  at|resolved to) ({ENDPOINT})\.rpc", shown))
    return resolved == {auth} and subscribed in ([customers, auth], [auth, customers])


def test_each_demo_has_a_separate_bus(processes: Processes) -> None:
    """Two demos at once, and a user's settings and key of another bus, do not meet."""
    assert processes.lightbus("keys", "init").wait() == 0
    env = {"LIGHTBUS_BUS": "production", "LIGHTBUS_PEERS": "127.0.0.1:1", "LIGHTBUS_CONFIG": "/nowhere.yaml"}
    demos = [processes.python("-m", "lightbus", "demo", env=env, name=f"demo{i}") for i in range(2)]
    assert [demo.wait(60) for demo in demos] == [0, 0]
    names = {re.findall(r"on the bus (\S+)", demo.stdout)[0] for demo in demos}
    assert len(names) == 2
    assert "production" not in names


# Colours


def test_colours_only_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Written to a terminal a line is coloured, elsewhere and with NO_COLOR it is plain text."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b[" in written(capfd)
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(capfd) == "auth      calls      x[0]('a')  a note\n"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert written(capfd) == "auth      calls      x[0]('a')  a note\n"


def written(capfd: pytest.CaptureFixture[str]) -> str:
    """Return one line of the demo as on standard output."""
    Lines().line("auth", "calls", "x[0]('a')", "a note")
    return capfd.readouterr().out


def test_long_note_gets_a_separate_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A note beyond the width is on the next line, indented, and an endpoint is not broken."""
    Lines().line("auth", "calls", "x", "ipc://" + "y" * 200)
    assert capfd.readouterr().out == "auth      calls      x\n" + " " * 21 + "ipc://" + "y" * 200 + "\n"


def test_spelled_is_what_the_program_says() -> None:
    """A call is shown as one would write it."""
    assert spelled("auth.check_password", {"user": "admin", "tries": 2}) == "auth.check_password(user='admin', tries=2)"
    assert spelled("auth.ping", {}) == "auth.ping()"


# --keep


def kept(processes: Processes) -> tuple[Process, list[int]]:
    """Start `lightbus demo --keep`, and return it with its workers' ids when it waits for a second terminal."""
    demo = processes.lightbus("demo", "--keep")
    demo.wait_for_line(r"Ctrl-C ends them", timeout=20.0)
    return demo, pids_in(demo.stdout)


@pytest.mark.long
def test_keep_leaves_workers_for_a_second_terminal(processes: Processes) -> None:
    """The shown commands work, their effects are shown, and Ctrl-C ends everything quietly."""
    demo, pids = kept(processes)
    call, event = re.findall(r"^    (LIGHTBUS_BUS=\S+ .*)$", demo.stdout, re.MULTILINE)
    caller = processes.start(["sh", "-c", call])
    assert caller.wait() == 0
    assert caller.stdout == "True\n"
    demo.wait_for_line(r"auth +served +auth.check_password\(.*\) -> True")
    assert processes.start(["sh", "-c", event]).wait() == 0
    demo.wait_for_line(r"customers hears +auth.user_registered\(user='Ada'")
    demo.signal(signal.SIGINT)
    assert demo.wait() == 0
    assert demo.stderr == ""
    assert not any(runs(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_no_worker_is_left_after_a_signal(processes: Processes, number: signal.Signals) -> None:
    """A signal stops the workers first; the exit code has the signal."""
    demo, pids = kept(processes)
    demo.signal(number)
    assert demo.wait() == 128 + number
    assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)


def test_no_worker_is_left_when_it_is_killed(processes: Processes) -> None:
    """Killed without a chance to do anything, it still leaves no worker: they notice by themselves."""
    demo, pids = kept(processes)
    assert all(runs(pid) for pid in pids)
    demo.kill()
    wait_until(lambda: not any(runs(pid) for pid in pids), timeout=10.0, what="the workers have ended")


def test_no_worker_is_left_when_it_is_killed_early(processes: Processes) -> None:
    """Killed while its workers still start, it leaves none either."""
    demo = processes.lightbus("demo")
    demo.wait_for_line("demo +starts")
    children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
    demo.kill()
    assert len(children) == 2
    wait_until(lambda: not any(runs(pid) for pid in children), timeout=10.0, what="the workers have ended")


# Failing


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the services' directory, which the demo of this process uses."""
    copied = tmp_path / "services"
    for service in ("auth", "customers"):
        shutil.copytree(SERVICES / service, copied / service)
    monkeypatch.setattr(demo_workers, "SERVICES", copied)
    return copied


WAITS_AND_FAILS = """
import time
from pathlib import Path
while not Path({flag!r}).exists():
    time.sleep(0.01)
raise RuntimeError('no such luck')
"""

SAYS_WHEN_IT_IS_READY = """
import logging
from pathlib import Path
def note(record):
    if "Ready" in record.getMessage():
        Path({flag!r}).touch()
    return True
logging.getLogger("lightbus.worker").addFilter(note)
"""


def test_worker_that_does_not_start_is_shown(services: Path, tmp_path: Path) -> None:
    """A worker that ends before it is ready: exit code 1, with its output."""
    flag = str(tmp_path / "ready")
    (services / "auth" / "bus.py").write_text(WAITS_AND_FAILS.format(flag=flag))
    with (services / "customers" / "bus.py").open("a") as file:
        file.write(SAYS_WHEN_IT_IS_READY.format(flag=flag))
    result = CliRunner().invoke(_group, ["demo"])
    assert result.exit_code == 1
    assert "The worker 'auth' ended with exit code 1." in result.output
    assert "RuntimeError: no such luck" in result.output
    assert "Serving customers at" in result.output  # the other one's words may help, too


def test_worker_that_does_not_work_is_shown(services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs, and never does what the demo waits for: exit code 1 after a bounded time."""
    monkeypatch.setattr("lightbus.cli.commands.demo.CHAIN_SECONDS", 0.5)
    source = (services / "auth" / "bus.py").read_text()
    (services / "auth" / "bus.py").write_text(source.replace("observe(bus.client)", ""))
    result = CliRunner().invoke(_group, ["demo"])
    assert result.exit_code == 1
    assert "Within 0.5 s this was not seen: each service listens to the other." in result.output
    assert "--- the worker 'auth' wrote:" in result.output


def test_worker_that_serves_nothing_is_shown(services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs, and does not advertise its API: exit code 1, and for how long that was waited for."""
    monkeypatch.setattr("lightbus.cli.commands.demo.START_SECONDS", 0.5)
    (services / "auth" / "bus.py").write_text("import lightbus\n\nbus = lightbus.create()\n")
    result = CliRunner().invoke(_group, ["demo"])
    assert result.exit_code == 1
    assert re.search("Within 0.5 s no peer advertised auth( and customers)?[.]", result.output)


def test_other_words_of_a_worker_are_kept(services: Path) -> None:
    """Other output of a worker is not taken for an observation, and is shown on a failure."""
    (services / "auth" / "bus.py").write_text("print('hello')\nprint('[1]')\nraise SystemExit(3)\n")
    with Workers(["auth"], "demo-test") as started:
        wait_until(lambda: not any(runs(pid) for pid in started.pids().values()), timeout=10.0)
        assert started.observations.empty()
        with pytest.raises(ClickException, match="The worker 'auth' ended with exit code 1"):
            started.check()
        message = started.failure("It went wrong.").message
    assert message.startswith("It went wrong.\n--- the worker 'auth' wrote:\n")
    assert "hello\n" in message
    assert "\n[1]" in message
