"""`lightbus run` for operators: metrics, probes, and notifications to systemd."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from helpers import Process, Processes
from helpers.http import ask, free_port
from lightbus.cli.support.operating import check_places, operate
from lightbus.exceptions import InvalidConfiguration
from lightbus.testing import memory_bus

SERVICE = """
import lightbus

bus = lightbus.create(service_name="auth")

class AuthApi(lightbus.Api):
    class Meta:
        name = "auth"

    def check_password(self, username: str) -> bool:
        return True

bus.client.register_api(AuthApi())
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "bus.py").write_text(SERVICE)
    return tmp_path


def url_of(worker: Process, pattern: str) -> str:
    return worker.wait_for_line(rf"{pattern} (http://[\d.:]+\d)")[1]


def test_metrics_and_health_of_a_worker(processes: Processes, directory: Path) -> None:
    """Both are served at the given ports, on this host only, while the worker runs."""
    worker = processes.worker("bus", "--metrics-port", "0", "--health-port", f"127.0.0.1:{free_port()}", cwd=directory)
    worker.wait_for_line("Ready")
    health, metrics = url_of(worker, "The health of this worker is served at"), url_of(worker, "Metrics at")
    assert metrics != health
    assert ask(f"{health}/live") == (200, "alive\n")
    status, text = ask(f"{health}/ready")
    assert (status, json.loads(text)["service"]) == (200, "auth")
    for url in (health, metrics):
        assert re.search('^lightbus_worker_info{.*service="auth".*} 1.0$', ask(f"{url}/metrics")[1], re.MULTILINE)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_place_that_is_none(processes: Processes, directory: Path) -> None:
    """The command line is wrong: exit code 2, and the forms that there are."""
    worker = processes.lightbus("run", "--health-port", "http", cwd=directory)
    assert worker.wait() == 2
    assert "--health-port is 'http'. It is a port" in worker.stderr


def test_a_port_that_is_taken(processes: Processes, directory: Path) -> None:
    """The worker does not start without the probes it was to have."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        worker = processes.lightbus("run", "--health-port", str(taken.getsockname()[1]), cwd=directory)
        assert worker.wait() == 1
        assert re.search("--health-port: .* Choose another port", worker.stderr)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_error_of_a_start_in_json(processes: Processes, directory: Path, workers: str) -> None:
    """With JSON logs, a failed start is a JSON line, for log collectors."""
    place = "65535" if workers == "2" else "http"
    worker = processes.lightbus(
        "run", "--log-format", "json", "--workers", workers, "--health-port", place, cwd=directory
    )
    assert worker.wait() == 2
    last = [json.loads(line) for line in worker.stderr.splitlines()][-1]
    assert (last["level"], last["message"].split()[0]) == ("critical", "--health-port")


@pytest.mark.parametrize(
    ("metrics", "health", "error"),
    [
        ("9100", "9101", "two would have the same"),
        ("9101", "0.0.0.0:9100", None),
        ("9100", "9102", None),
        ("9100", "9100", None),  # one server has both
        ("0", "0", None),
        (None, "65535", "65535 is the last"),
        ("http", None, "It is a port"),
    ],
)
def test_places_of_several_workers(metrics: str | None, health: str | None, error: str | None) -> None:
    """Impossible ports are refused before any worker is started, naming the options."""
    if error is None:
        check_places(metrics=metrics, health=health, workers=2)
    else:
        with pytest.raises(InvalidConfiguration, match=rf"^--.*{error}"):
            check_places(metrics=metrics, health=health, workers=2)


def test_option_and_setting_of_one_meaning_are_refused() -> None:
    """An option and the setting of the same meaning are too much."""
    with memory_bus() as hub:
        bus = hub.create({"plugins": {"health": {"enabled": True, "port": 0}}})
        with pytest.raises(InvalidConfiguration, match=r"--health-port was given, and plugins\.health is enabled"):
            operate(bus.client, metrics=None, health="0")


def test_nothing_that_was_not_asked() -> None:
    """Without an option no hook is added, and nothing served."""
    with memory_bus() as hub:
        bus = hub.create()
        operate(bus.client, metrics=None, health=None)
        assert not any(bus.client.hooks.is_about(what) for what in ("worker_started", "rpc_call", "event_execution"))


def test_systemd_is_notified(processes: Processes, directory: Path) -> None:
    """With Type=notify, systemd is notified that the worker serves, and that it stops."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0lightbus-test-" + directory.name)
        supervisor.settimeout(20)
        name = "@lightbus-test-" + directory.name
        worker = processes.worker(cwd=directory, env={"NOTIFY_SOCKET": name})
        assert supervisor.recv(4096).startswith(b"READY=1\nSTATUS=Serving auth as ")
        worker.signal(signal.SIGTERM)
        assert supervisor.recv(4096).startswith(b"STOPPING=1\n")
        assert worker.wait() == 0


@pytest.mark.new_interpreters
def test_no_http_server_unless_requested(processes: Processes) -> None:
    """A worker that serves neither metrics nor health has no HTTP server in its memory."""
    code = "import sys, lightbus.cli.support.operating; print('http.server' in sys.modules)"
    process = processes.python("-c", code)
    assert process.wait() == 0, process.stderr
    assert process.stdout.strip() == "False"
