from __future__ import annotations

import builtins
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers import Process, Processes, wait_until
from lightbus import InvalidConfiguration
from lightbus.cli.commands.run import run

pytest.importorskip("watchfiles")

from lightbus.cli.support.reloader import forget_compiled, shown

MODULE = """
import os
import lightbus

bus = lightbus.create(service_name="auth")

@bus.client.after_worker_started
def tell():
    print("serves", VERSION, os.getpid(), flush=True)
"""


def write(directory: Path, version: str) -> None:
    (directory / "bus.py").write_text(f"VERSION = {version}\n{MODULE}")


def pid_of(reloader: Process, version: int) -> int:
    """Return the process that serves a version, once it does."""
    return int(reloader.wait_for_line(rf"^serves {version} (\d+)$", 30)[1])


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_change_within_a_second_counts(processes: Processes, tmp_path: Path) -> None:
    """Python compares size and second of a file with its .pyc; the .pyc of a changed file is removed."""
    module = tmp_path / "version.py"
    for number in (1, 2):
        module.write_text(f"print({number})")
        os.utime(module, (1_700_000_000, 1_700_000_000))
        forget_compiled([str(module), str(tmp_path / "gone.py"), str(tmp_path / "settings.yaml")])
        process = processes.python("-c", "import version", cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": ""})
        assert process.wait() == 0
        assert process.stdout == f"{number}\n"


@pytest.mark.long
def test_worker_is_restarted(processes: Processes, tmp_path: Path) -> None:
    """When a file changes; one that cannot start, or ends by itself, at the next change; Ctrl-C ends it all with 0."""
    write(tmp_path, "1")
    reloader = processes.worker("bus", "--reload", cwd=tmp_path)
    first = pid_of(reloader, 1)
    write(tmp_path, "2")
    second = pid_of(reloader, 2)
    assert not is_running(first)
    assert "bus.py changed" in reloader.stderr
    write(tmp_path, "nothing that there is")
    reloader.wait_for_line("The worker has ended with 1; it is restarted when a file changes", 30)
    write(tmp_path, "3")
    third = pid_of(reloader, 3)
    assert not is_running(second)
    reloader.signal(signal.SIGHUP)
    wait_until(lambda: len(re.findall(r"^serves 3 \d+$", reloader.stdout, flags=re.MULTILINE)) == 2, 30)
    assert not is_running(third)
    reloader.signal(signal.SIGINT)
    assert reloader.wait(60) == 0


def test_reloader_that_is_killed(processes: Processes, tmp_path: Path) -> None:
    """Its worker ends, too."""
    write(tmp_path, "1")
    reloader = processes.worker("bus", "--reload", cwd=tmp_path)
    worker = pid_of(reloader, 1)
    reloader.kill()
    wait_until(lambda: not is_running(worker), 30)


def test_options_that_do_not_go_together() -> None:
    """The error says which option to leave out, or to add."""
    for options, expected in {
        ("--reload", "--workers", "2"): "leave --workers out",
        ("--reload-dir", "."): "give that, too",
    }.items():
        result = CliRunner().invoke(run, options)
        assert result.exit_code == 2
        assert expected in result.output


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with the line that installs it."""
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "watchfiles":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "lightbus.cli.support.reloader")
    monkeypatch.setattr(builtins, "__import__", without)
    result = CliRunner().invoke(run, ["--reload"])
    assert isinstance(result.exception, InvalidConfiguration)
    assert r"pip install 'lightbus[reload]'" in str(result.exception)


def test_changed_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of them, relative to this directory."""
    monkeypatch.chdir(tmp_path)
    paths = [os.path.join(tmp_path, "shop", name) for name in ("d.py", "a.py", "b.py", "c.py")]
    assert shown(paths[:1]) == "shop/d.py"
    assert shown(paths) == "shop/a.py, shop/b.py, shop/c.py and 1 more"
