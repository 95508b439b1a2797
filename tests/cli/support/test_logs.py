"""The logs of `lightbus run`, with and without a logging setup of the application, and without standard error."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lightbus
from helpers import Process, Processes, wait_until
from lightbus.cli.support.logs import ApplicationLogging
from lightbus.logs import TerminalHandler

SERVICE = """
import logging, logging.config
import lightbus

{setup}
logging.getLogger("shop.stock").info("imported")
bus = lightbus.create(service_name="shop")

@bus.client.on_start()
def on_start():
    logging.getLogger("shop.stock").info("a record of the application")
    logging.getLogger("shop.stock").debug("a detail of the application")
    logging.getLogger("quiet").info("for nobody")

class ShopApi(lightbus.Api):
    class Meta:
        name = "shop"
    def count(self) -> int:
        return 1

bus.client.register_api(ShopApi())
logging.getLogger("quiet").addHandler(logging.NullHandler())
print("imported", flush=True)
"""

ROOT = "logging.basicConfig(filename='mine.log', level=logging.INFO, format='MINE %(name)s %(message)s')"
OWN = """
handler = logging.FileHandler("mine.log")
handler.setFormatter(logging.Formatter("MINE %(name)s %(message)s"))
logging.getLogger("lightbus").addHandler(handler)
"""


def start(processes: Processes, directory: Path, setup: str = "", *args: str) -> Process:
    """Start `lightbus run` on a module that sets logging up so, and return it when it serves."""
    (directory / "bus.py").write_text(SERVICE.format(setup=setup))
    worker = processes.lightbus("run", *args, cwd=directory)
    log = directory / "mine.log"
    wait_until(lambda: "Ready." in worker.stderr or (log.exists() and "Ready." in log.read_text()), what="it serves")
    return worker


@pytest.mark.new_interpreters
def test_records_of_the_application_are_shown(processes: Processes, tmp_path: Path) -> None:
    """Without a setup the application's records are shown from INFO on, also during its import, once each."""
    said = start(processes, tmp_path).stderr
    assert said.count("INFO    shop.stock: imported") == 1
    assert said.count("INFO    shop.stock: a record of the application") == 1
    assert said.count("Ready.") == 1
    assert "a detail" not in said


def test_the_level_is_for_all(processes: Processes, tmp_path: Path) -> None:
    """--log-level debug shows the application's details, too."""
    said = start(processes, tmp_path, "", "--log-level", "debug").stderr
    assert "DEBUG   shop.stock: a detail of the application" in said


@pytest.mark.parametrize("setup", [ROOT, f"{ROOT}\nlogging.getLogger('shop').setLevel('WARNING')"])
def test_an_own_root_handler_is_kept(processes: Processes, tmp_path: Path, setup: str) -> None:
    """The application's root handler gets all records, and nothing is logged elsewhere."""
    worker = start(processes, tmp_path, setup)
    log = (tmp_path / "mine.log").read_text()
    assert "MINE lightbus.worker" in log
    assert ("MINE shop.stock a record" in log) is (setup == ROOT)
    assert worker.stderr == ""


def test_an_own_handler_for_lightbus_is_kept(processes: Processes, tmp_path: Path) -> None:
    """A handler on the logger `lightbus` has its records for itself; the application's others go to the terminal."""
    worker = start(processes, tmp_path, OWN)
    assert "MINE lightbus.worker" in (tmp_path / "mine.log").read_text()
    assert "Ready." not in worker.stderr
    assert "a record of the application" in worker.stderr


def test_an_own_level_is_kept(processes: Processes, tmp_path: Path) -> None:
    """A level that the application has chosen stays; one on the command line is chosen by who runs it."""
    setup = "logging.basicConfig(filename='mine.log', level='ERROR')\nlogging.getLogger('lightbus').setLevel('ERROR')"
    (tmp_path / "bus.py").write_text(SERVICE.format(setup=setup))
    worker = processes.lightbus("run", cwd=tmp_path)
    worker.wait_for_line("imported")
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert (tmp_path / "mine.log").read_text() == ""
    worker = start(processes, tmp_path, setup, "--log-level", "info")
    assert "shop.stock" not in (tmp_path / "mine.log").read_text()


@contextmanager
def untouched_logging() -> Iterator[logging.Logger]:
    """Reset logging to that of a new process, and yield the root."""
    root, ours = logging.getLogger(), logging.getLogger("lightbus")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.NOTSET)
    try:
        yield root
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


@pytest.mark.parametrize(
    ("chosen", "settings", "of_lightbus", "of_others"),
    [
        (None, {}, "INFO", "INFO"),
        (None, {"bus": {"log_level": "error"}}, "ERROR", "ERROR"),
        ("WARNING", {}, "WARNING", "WARNING"),
        ("ERROR", {"bus": {"log_level": "info"}}, "INFO", "ERROR"),
    ],
)
def test_application_level_holds_unless_the_settings_name_one(
    chosen: str | None, settings: dict[str, object], of_lightbus: str, of_others: str
) -> None:
    """A level of the application's holds for everything, unless the settings name one for Lightbus."""
    with untouched_logging() as root:
        logs = ApplicationLogging()
        with logs.watched():
            if chosen is not None:
                root.setLevel(chosen)
        logs.finish(lightbus.create(settings).client, log_level=None)
        assert logging.getLevelName(logging.getLogger("lightbus.x").getEffectiveLevel()) == of_lightbus
        assert logging.getLevelName(logging.getLogger("x").getEffectiveLevel()) == of_others


def test_a_plain_handler_leaves_the_levels() -> None:
    """`logging.basicConfig()` chooses no level: others stay at Python's own, Lightbus has that of the settings."""
    with untouched_logging() as root:
        logs = ApplicationLogging()
        with logs.watched():
            root.addHandler(handler := logging.NullHandler())
        logs.finish(lightbus.create().client, log_level=None)
        assert root.level == logging.WARNING
        assert logging.getLogger("lightbus").level == logging.INFO
        assert root.handlers == [handler]


# As JSON, and by a file


def lines_of(text: str) -> list[dict[str, object]]:
    """Return the records of a log of JSON."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_records_as_json(processes: Processes, tmp_path: Path, log_format: str) -> None:
    """If asked for, each record is a JSON object: those of Lightbus, and the application's from its import on."""
    told = lines_of(start(processes, tmp_path, "", "--log-format", log_format).stderr)
    [ready] = [line for line in told if str(line["message"]).endswith("Ready.")]
    assert (ready["level"], ready["logger"], ready["service"]) == ("info", "lightbus.worker", "shop")
    assert ready["process"]
    assert [line["message"] for line in told if line["logger"] == "shop.stock"] == [
        "imported",
        "a record of the application",
    ]


def test_json_has_the_present_call(processes: Processes, tmp_path: Path) -> None:
    """A record of a handler contains the call that it serves; one of the process itself contains none."""
    setup = "setup = None"
    (tmp_path / "bus.py").write_text(
        SERVICE.format(setup=setup).replace(
            "        return 1", "        logging.getLogger('x').info('counted')\n        return 1"
        )
    )
    worker = processes.lightbus("run", "--log-format", "json", cwd=tmp_path)
    assert_it_serves(processes)
    [counted] = [line for line in lines_of(worker.stderr) if line["message"] == "counted"]
    assert (counted["api"], counted["procedure"]) == ("shop", "count")
    assert counted["call_id"]
    assert all("api" not in line for line in lines_of(worker.stderr) if line != counted)


def test_logging_by_a_file(processes: Processes, tmp_path: Path) -> None:
    """The file alone defines logging, and may name the formatter of Lightbus."""
    (tmp_path / "logging.yaml").write_text(
        """
formatters: {json: {"()": lightbus.json_logs.JsonFormatter, service: named}}
handlers: {file: {class: logging.FileHandler, filename: mine.log, formatter: json}}
root: {handlers: [file], level: INFO}
"""
    )
    worker = start(processes, tmp_path, "", "--log-config", "logging.yaml")
    told = lines_of((tmp_path / "mine.log").read_text())
    assert {"lightbus.worker", "shop.stock"} <= {line["logger"] for line in told}
    assert {line["service"] for line in told} == {"named"}
    assert worker.stderr == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("handlers: {x: {class: none.Handler}}", "--log-config logging.yaml: Unable to configure handler 'x'"),
        ("- a list", "It must be a mapping"),
    ],
)
def test_a_file_that_is_none(processes: Processes, tmp_path: Path, content: str, said: str) -> None:
    """The error names the file and the problem; exit code 2."""
    (tmp_path / "logging.yaml").write_text(content)
    (tmp_path / "bus.py").write_text(SERVICE.format(setup=""))
    worker = processes.lightbus("run", "--log-config", "logging.yaml", cwd=tmp_path)
    assert worker.wait() == 2
    assert said in worker.stderr


def test_log_format_has_no_effect_on_an_application_setup(processes: Processes, tmp_path: Path) -> None:
    """The application's setup is kept, and a warning says that --log-format has no effect."""
    start(processes, tmp_path, ROOT, "--log-format", "json")
    log = (tmp_path / "mine.log").read_text()
    assert "MINE lightbus.cli --log-format json has no effect" in log


def test_two_ways_to_say_it(processes: Processes, tmp_path: Path) -> None:
    """A format beside a file is too much."""
    worker = processes.lightbus("run", "--log-config", "x.yaml", "--log-format", "json", cwd=tmp_path)
    assert worker.wait() == 2
    assert "leave --log-format out" in worker.stderr


# Where nobody reads


def assert_it_serves(processes: Processes) -> None:
    """Assert that the worker answers a call, although it logs nothing."""
    call = processes.lightbus("call", "shop.count", "--wait", "60")
    call.wait(60)
    assert call.stdout.strip() == "1"


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_worker_without_standard_streams_serves(processes: Processes, tmp_path: Path, streams: str) -> None:
    """A worker without standard streams serves as any other, and writes its messages into no other file."""
    (tmp_path / "bus.py").write_text(SERVICE.format(setup=""))
    worker = processes.start(["sh", "-c", f"exec {sys.executable} -m lightbus run {streams}"], cwd=tmp_path)
    assert_it_serves(processes)
    targets = [os.readlink(f"/proc/{worker.pid}/fd/{number}") for number in range(3)]
    assert not [target for target in targets if "socket" in target or "sqlite" in target]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.parametrize("break_it", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_a_stream_that_breaks_later(processes: Processes, tmp_path: Path, break_it: str) -> None:
    """What happens to standard error while a worker runs harms neither calls nor its end."""
    setup = f"import os, sys\n@lightbus.create().client.on_start()\ndef nothing(): pass\n{break_it}"
    (tmp_path / "bus.py").write_text(SERVICE.format(setup=setup))
    worker = processes.lightbus("run", cwd=tmp_path)
    assert_it_serves(processes)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_record_that_cannot_be_formatted_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in a message is not mistaken for a closed stream."""
    record = logging.LogRecord("x", logging.INFO, "f.py", 1, "%d", ("text",), None)
    TerminalHandler().handle(record)
    assert "--- Logging error ---" in capsys.readouterr().err
