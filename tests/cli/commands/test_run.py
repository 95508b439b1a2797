"""`lightbus run`, as the process that a user starts."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import lightbus
from helpers import Process, Processes, Stopwatch, wait_until
from helpers.scale import PATIENCE

SERVICE = """
import pathlib, time
import lightbus

bus = lightbus.create()

class AuthApi(lightbus.Api):
    user_registered = lightbus.Event(parameters=["user"])

    class Meta:
        name = "auth"

    def check_password(self, user: str, password: str) -> bool:
        return password == "secret"

    def wait_for(self, path: str) -> str:
        print("executing", flush=True)
        while not pathlib.Path(path).exists():
            time.sleep(0.005)
        return "done"

bus.client.register_api(AuthApi())

def hear(event_message, user):
    print(f"heard {user}\\n", end="", flush=True)

bus.auth.user_registered.listen(hear, listener_name="ears")

@bus.client.every(seconds=0.02)
def tick():
    print("tick\\n", end="", flush=True)  # in one piece: threads write side by side
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a service."""
    made = tmp_path / "auth"
    made.mkdir()
    (made / "bus.py").write_text(SERVICE)
    return made


def start(processes: Processes, directory: Path, *args: str, env: dict[str, str] | None = None) -> Process:
    """Start `lightbus run ARGS` there, and return it when it serves."""
    worker = processes.lightbus("run", *args, cwd=directory, env=env)
    worker.wait_for_line(r"Ready\.$")
    return worker


# What it says


@pytest.mark.new_interpreters
def test_start_says_what_runs_where(processes: Processes, directory: Path) -> None:
    """At the start it logs the module's file, the service, who can reach it, the listeners, the endpoint."""
    worker = start(processes, directory)
    said = worker.stderr
    assert f"Loaded the bus module 'bus' from {directory / 'bus.py'}" in said
    assert "service 'auth'" in said
    assert "this bus stays on this host" in said
    assert "Listening: ears of auth.user_registered" in said
    assert "Serving auth at ipc://" in said
    assert worker.stdout.replace("tick\n", "") == ""  # standard output is the service's own


def test_help_shows_the_environment(processes: Processes) -> None:
    """`--help` lists each environment variable with its setting."""
    process = processes.lightbus("run", "--help")
    assert process.wait() == 0
    names = "MODULE CONFIG SERVICE_NAME PROCESS_NAME FEATURES LOG_LEVEL BUS SECURITY INTERFACES PEERS"
    for variable in names.split(" "):
        assert f"LIGHTBUS_{variable} " in process.stdout


def test_module_that_registers_nothing_is_warned_of(processes: Processes, directory: Path) -> None:
    """An API that was never registered leaves a worker that looks well and does nothing."""
    (directory / "bus.py").write_text("import lightbus\nbus = lightbus.create()\n")
    worker = start(processes, directory)
    assert "there is nothing to serve. Is a line like bus.client.register_api(AuthApi()) missing?" in worker.stderr


# Its options


@pytest.mark.parametrize("how", ["option", "short option", "environment"])
def test_module_is_chosen(processes: Processes, directory: Path, how: str) -> None:
    """The module is named by --bus, -b or LIGHTBUS_MODULE, dots included."""
    (directory / "wires").mkdir()
    (directory / "bus.py").rename(directory / "wires" / "entry.py")
    args = {"option": ["--bus", "wires.entry"], "short option": ["-b", "wires.entry"], "environment": []}[how]
    worker = start(processes, directory, *args, env={"LIGHTBUS_MODULE": "wires.entry"} if not args else None)
    assert "Loaded the bus module 'wires.entry'" in worker.stderr


def test_names_are_chosen(processes: Processes, directory: Path) -> None:
    """--service-name and --process-name override the module's names, and are shown to peers."""
    source = SERVICE.replace("create()", "create(service_name='other', process_name='other')")
    (directory / "bus.py").write_text(source)
    start(processes, directory, "--service-name", "doors", "-p", "left")
    bus = lightbus.create()
    with bus.client:
        bus.client.wait_for_apis("auth")
        (peer,) = bus.client.engine.snapshot.peers.values()
        assert (peer.announcement.service, peer.announcement.process) == ("doors", "left")


def test_log_level_is_chosen(processes: Processes, directory: Path) -> None:
    """--log-level warning leaves only what needs a person."""
    worker = processes.lightbus("run", "--log-level", "warning", cwd=directory)
    worker.wait_for_line("tick")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.stderr == ""


@pytest.mark.parametrize(
    ("option", "does"),
    [
        (["--only", "rpcs"], {"rpcs"}),
        (["--only", "events,tasks"], {"events", "tasks"}),
        (["--skip", "rpcs"], {"events", "tasks"}),
        (["--skip", " Events , tasks"], {"rpcs"}),
    ],
)
def test_features_are_chosen(processes: Processes, directory: Path, option: list[str], does: set[str]) -> None:
    """A worker without calls refuses them, one without events hears none, one without tasks runs no schedule."""
    worker = start(processes, directory, *option)
    assert f"Doing only: {', '.join(sorted(does))}" in worker.stderr
    bus = lightbus.create()
    with bus.client:
        if "rpcs" in does:
            assert bus.auth.check_password(user="sally", password="secret") is True
        else:
            with pytest.raises(lightbus.NotReachable, match=r"serves no calls: .*without the feature 'rpcs'"):
                bus.auth.check_password(user="sally", password="secret")
        bus.auth.user_registered(user="sally")  # any worker publishes
    if "events" in does:
        worker.wait_for_line("heard sally")
    if "tasks" in does:
        worker.wait_for_line("tick")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert {"heard sally", "tick"} & set(worker.stdout.splitlines()) == {
        line for feature, line in (("events", "heard sally"), ("tasks", "tick")) if feature in does
    }


def test_calls_go_past_workers_that_serve_none(processes: Processes, directory: Path) -> None:
    """Beside a worker that skips calls, every call is answered by the other one."""
    start(processes, directory, "--skip", "rpcs")
    start(processes, directory)
    bus = lightbus.create()
    with bus.client:
        wait_until(lambda: len(_instances(bus)) == 2)
        assert [bus.auth.check_password(user="sally", password="secret") for _ in range(10)] == [True] * 10


def _instances(bus: lightbus.BusPath) -> set[str]:
    bus.client.wait_for_apis("auth")
    return {peer.instance for peer in bus.client.engine.snapshot.by_api.get("auth", ())}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--only", "rpcs", "--skip", "events"], "--only and --skip say the same thing in two ways"),
        (["--only", "rpc"], "Invalid value for --only: 'rpc' is none of rpcs, events, tasks"),
        (["--skip", "sleep"], "Invalid value for --skip: 'sleep' is none of rpcs, events, tasks"),
        (["--only", ""], "Invalid value for --only: it names nothing"),
        (["--skip", "rpcs,events,tasks"], "Invalid value for --skip: nothing is left for the worker to do"),
        (["--log-level", "loud"], "Invalid value for '--log-level': 'loud' is not one of"),
    ],
)
def test_senseless_options_are_refused(processes: Processes, directory: Path, args: list[str], complaint: str) -> None:
    """What cannot be meant ends with exit code 2 and a sentence, before the module is imported."""
    (directory / "bus.py").write_text("raise AssertionError('imported')")
    worker = processes.lightbus("run", *args, cwd=directory)
    assert worker.wait() == 2
    assert complaint in worker.stderr
    assert "Traceback" not in worker.stderr


def test_schema_of_other_services_is_loaded(processes: Processes, directory: Path, tmp_path: Path) -> None:
    """With --schema a call with wrong arguments is refused locally."""
    (tmp_path / "bus.py").write_text(SERVICE)
    dump = "import bus; bus.bus.schema.save_local('auth.json')"
    assert processes.python("-c", dump, cwd=tmp_path).wait() == 0
    (directory / "bus.py").write_text(
        "import lightbus\n"
        "bus = lightbus.create()\n"
        "@bus.client.on_start()\n"
        "def on_start():\n"
        "    try:\n"
        "        bus.auth.check_password.call(user='sally')\n"
        "    except lightbus.ValidationError as error:\n"
        "        print('refused:', error, flush=True)\n"
    )
    worker = start(processes, directory, "--schema", str(tmp_path / "auth.json"))
    worker.wait_for_line("refused: .*password")


def test_missing_schema_is_named(processes: Processes, directory: Path) -> None:
    """A schema that is not there ends the worker with the file's name."""
    worker = processes.lightbus("run", "--schema", "nowhere.json", cwd=directory)
    assert worker.wait() == 1
    assert "The schema file nowhere.json cannot be used" in worker.stderr
    assert "Traceback" not in worker.stderr


# Failing to start


@pytest.mark.new_interpreters
def test_failed_import_ends_with_traceback_and_advice(processes: Processes, directory: Path) -> None:
    """A module that cannot be imported: exit code 1, the traceback, and what to check."""
    (directory / "bus.py").write_text("import surely_not_installed\n")
    worker = processes.lightbus("run", cwd=directory)
    assert worker.wait() == 1
    assert "Traceback (most recent call last):" in worker.stderr
    assert "Install it into the environment that runs lightbus." in worker.stderr.splitlines()[-1]


@pytest.mark.new_interpreters
def test_missing_module_ends_with_advice(processes: Processes, tmp_path: Path) -> None:
    """Without a module: exit code 1, with the searched directory."""
    worker = processes.lightbus("run", cwd=tmp_path)
    assert worker.wait() == 1
    assert worker.stderr.startswith(f"Error: There is no module 'bus' in {tmp_path}")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("service_nam: auth\n", "service_nam (from the file bus.yaml) is not a setting. Did you mean 'service_name'"),
        ("bus: {log_level: loud}\n", "bus.log_level"),
        ("- a\n- b\n", "It must be a mapping of settings"),
        ("security: {mode: insecure}\n", None),
    ],
)
def test_bad_settings_end_with_one_clear_sentence(
    processes: Processes, directory: Path, settings: str, complaint: str | None
) -> None:
    """Invalid settings: exit code 2, with setting and origin, without a traceback."""
    (directory / "bus.yaml").write_text(settings)
    worker = processes.lightbus("run", "--config", "bus.yaml", cwd=directory, env={"LIGHTBUS_BUS": ""})
    assert worker.wait() == 2
    assert (complaint or "needs an explicit bus name") in worker.stderr
    assert worker.stderr.startswith("Error: ")
    assert "Traceback" not in worker.stderr


def test_fixed_ports_taken_twice_name_the_setting(processes: Processes, directory: Path) -> None:
    """A second worker with the same fixed ports ends, and names the settings to leave out."""
    ports = _free_ports()
    (directory / "bus.yaml").write_text(
        "security: {mode: insecure}\n"
        f"network: {{interfaces: [127.0.0.1], rpc_port: {ports[0]}, event_port: {ports[1]}}}\n"
    )
    start(processes, directory, "--config", "bus.yaml")
    second = processes.lightbus("run", "--config", "bus.yaml", cwd=directory)
    assert second.wait() == 1
    assert f"network.rpc_port ({ports[0]}) and network.event_port ({ports[1]})" in second.stderr
    assert "Leave the ports out" in second.stderr


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_hook_that_raises_at_the_start_ends_the_worker(processes: Processes, directory: Path) -> None:
    """An exception in on_start is the program's own: it ends with its traceback, and announces nothing."""
    with (directory / "bus.py").open("a") as module:
        module.write("\n@bus.client.on_start()\ndef on_start():\n    raise ValueError('no database')\n")
    worker = processes.lightbus("run", cwd=directory)
    assert worker.wait() == 1
    trace = worker.stderr.partition("Traceback")[2].splitlines()
    assert f'File "{directory / "bus.py"}"' in trace[1]  # the user's frames only
    assert trace[-1] == "ValueError: no database"
    assert "Ready" not in worker.stderr


def test_a_module_that_runs_forever_is_refused(processes: Processes, directory: Path) -> None:
    """Its import would never return, and ignore signals: the error says where to put the call."""
    with (directory / "bus.py").open("a") as module:
        module.write("\nbus.client.run_forever()\n")
    worker = processes.lightbus("run", cwd=directory)
    assert worker.wait() == lightbus.FailedToImportBusModule.exit_code
    assert "run_forever() was called at the top level of the bus module 'bus'" in worker.stderr
    assert "if __name__ == '__main__':" in worker.stderr


def test_bus_error_in_a_hook_shows_where(processes: Processes, directory: Path) -> None:
    """An error of the bus that a hook ran into has its own exit code, and a traceback that leads to the hook."""
    with (directory / "bus.py").open("a") as module:
        module.write("\n@bus.client.on_start()\ndef on_start():\n    bus.shop.sell.call()\n")
    worker = processes.lightbus("run", cwd=directory)
    assert worker.wait() == lightbus.UnknownApi.exit_code
    assert "in on_start" in worker.stderr
    assert worker.stderr.splitlines()[-1].startswith("Error: No peer advertises the API 'shop'")


# Ending


@pytest.mark.new_interpreters
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_cleanly(processes: Processes, directory: Path, number: signal.Signals, tmp_path: Path) -> None:
    """One signal: the announcement is withdrawn, a running call is finished and answered, the exit code is 0."""
    worker = start(processes, directory)
    done = tmp_path / "done"
    bus = lightbus.create()
    with bus.client:
        call = _in_thread(lambda: bus.auth.wait_for(path=str(done), bus_options={"timeout": 30}))
        worker.wait_for_line("executing")
        worker.signal(number)
        worker.wait_for_line(f"Stopping, on {number.name}")
        wait_until(lambda: not bus.client.engine.snapshot.by_api.get("auth"), what="nobody advertises auth any more")
        assert worker.running
        done.touch()
        assert call.result(60 * PATIENCE) == "done"
        assert worker.wait() == 0
        watch = Stopwatch()
        with pytest.raises(lightbus.UnknownApi):  # it said that it goes: nobody waits for it to come back
            bus.auth.check_password(user="sally", password="secret")
        assert watch.seconds < 2.0 * PATIENCE
    assert "Stopped auth" in worker.stderr
    assert "Traceback" not in worker.stderr


@pytest.mark.new_interpreters
def test_second_signal_ends_it_at_once(processes: Processes, directory: Path, tmp_path: Path) -> None:
    """It does not wait for a running call."""
    worker = start(processes, directory)
    bus = lightbus.create()
    with bus.client:
        call = _in_thread(lambda: bus.auth.wait_for(path=str(tmp_path / "never"), bus_options={"timeout": 30}))
        worker.wait_for_line("executing")
        worker.signal(signal.SIGTERM)
        worker.wait_for_line("a second signal ends it at once")
        worker.signal(signal.SIGINT)
        assert worker.wait() == 128 + signal.SIGINT
        with pytest.raises(lightbus.PeerLost):
            call.result(60 * PATIENCE)


@pytest.mark.new_interpreters
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_import_ends_it(processes: Processes, directory: Path, number: signal.Signals) -> None:
    """A signal during the import of the module ends the process as usual, without a hint."""
    (directory / "bus.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)")
    worker = processes.lightbus("run", cwd=directory)
    worker.wait_for_line("importing")
    worker.signal(number)
    assert worker.wait() in (-number, 128 + number)
    assert worker.stderr == ""


@pytest.mark.new_interpreters
@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_start_ends_it(
    processes: Processes, directory: Path, number: signal.Signals, kind: str
) -> None:
    """A hook that waits for something at the start need not be waited for; the exit code is 0."""
    wait = "time.sleep(60)" if kind == "def" else "import asyncio; await asyncio.sleep(60)"
    with (directory / "bus.py").open("a") as module:
        module.write(f"\n@bus.client.on_start()\n{kind} on_start():\n    print('starting', flush=True)\n    {wait}\n")
    worker = processes.lightbus("run", cwd=directory)
    worker.wait_for_line("starting")
    worker.signal(number)
    assert worker.wait() == 0
    assert "Traceback" not in worker.stderr


def test_no_socket_files_are_left(processes: Processes, directory: Path) -> None:
    """A worker that was stopped leaves no socket behind in the user's directory."""
    worker = start(processes, directory)
    match = worker.wait_for_line(r"Serving auth at ipc://(\S+)\.rpc ")
    sockets = [Path(f"{match[1]}.rpc"), Path(f"{match[1]}.pub")]
    assert all(path.is_socket() for path in sockets)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not any(path.exists() for path in sockets)


def _in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Run a function in a new thread, and return the future of its result."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run).start()
    return future


def test_config_option_wins_over_the_module(processes: Processes, directory: Path) -> None:
    """`--config` takes the place of the file that the bus module names in `create()`."""
    (directory / "own.yaml").write_text("service_name: from_the_module\n")
    (directory / "other.yaml").write_text("service_name: from_the_option\n")
    (directory / "bus.py").write_text(SERVICE.replace("create()", "create(config_file='own.yaml')"))

    assert "service 'from_the_module'" in start(processes, directory).output
    assert "service 'from_the_option'" in start(processes, directory, "--config", "other.yaml").output
