"""
Starting `python -m lightbus` as a copy of an interpreter that has imported it, where the start is not what is tested.

To import the package takes longer than all that most programs of the tests do, and they are a thousand. So one
interpreter imports it, and forks for each of them. The copy gets the arguments, the directory, the environment and the
output that a new interpreter would have got, runs the module, and ends as an interpreter ends: but for taking apart
what it has been given. It is a child of the tests' process, as other programs are: it has been left by its parent
while we were the ones who take up orphans.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["ForkServer", "Forked"]

LARGEST = 1 << 18
"""Bytes of a request: the environment is in it."""

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

PRELOADED = (
    "lightbus.cli.commands.run", "lightbus.cli.support.bus_module", "lightbus.cli.support.logs", "lightbus.plugins",
    "lightbus.service.casting", "lightbus.adapters.mdns.discovery", "zeroconf.asyncio",
    "lightbus.cli.support.connection", "lightbus.cli.support.output", "lightbus.cli.support.publishers",
    "rich.console", "rich.table",
)  # fmt: skip
"""What most of the programs import."""

MODULE = ["-m", "lightbus"]


class Forked(subprocess.Popen[bytes]):
    """A program that somebody else has started for us: a child, of which all is as if we had."""

    def __init__(self, pid: int, argv: list[str]) -> None:
        self.args, self.pid = argv, pid
        self.returncode: Any = None
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._waitpid_lock = True, threading.Lock()


class ForkServer:
    """The interpreter that forks. It ends with `close`, or when we end."""

    def __init__(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBUS_")}
        env["PYTHONUNBUFFERED"] = "1"
        self._settings = _settings(env)
        self._libc = ctypes.CDLL(None)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._channel, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=env,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the interpreter."""
        return self._popen.pid

    def can_start(self, argv: list[str], env: Mapping[str, str]) -> bool:
        """Return whether a program may be a copy: it is our command, on an interpreter that is set up as this one."""
        return argv[:3] == [sys.executable, *MODULE] and _settings(env) == self._settings

    def start(self, argv: list[str], *, cwd: Path | str | None, env: Mapping[str, str], out: Path, err: Path) -> Forked:
        """Start a program of which `can_start` is true; it writes into two files that are there."""
        where = os.fspath(cwd or Path.cwd())
        request = {"argv": argv[3:], "cwd": where, "env": dict(env), "out": str(out), "err": str(err)}
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            self._channel.sendall(json.dumps(request).encode())
            pid = int(self._channel.recv(16) or b"0")
        finally:
            self._libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        if not pid:
            raise RuntimeError("the interpreter that forks for tests has ended")
        return Forked(pid, argv)

    def close(self) -> None:
        """End it; what it has started goes on."""
        self._channel.close()
        self._popen.wait()


def _settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return what an interpreter looks at once, when it starts."""
    return {name: env[name] for name in env if name.startswith(("PYTHON", "LC_", "LANG", "TZ", "LD_", "COVERAGE_"))}


def _requested(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request, and return it in the child. When nobody can ask any more it is over."""
    while request := channel.recv(LARGEST):
        told, tell = os.pipe()
        between = os.fork()
        if not between:
            between = os.getpid()
            if os.fork():
                os.kill(between, signal.SIGKILL)  # without a word: coverage would save what it has measured
            os.close(told)
            os.setsid()
            while os.getppid() == between:  # it becomes a child of the tests' process
                time.sleep(0.0002)
            os.write(tell, str(os.getpid()).encode())
            os.close(tell)
            return dict(json.loads(request))
        os.close(tell)
        os.waitpid(between, 0)
        with suppress(OSError):
            channel.send(os.read(told, 16))
        os.close(told)
    os._exit(0)


def _become(request: dict[str, Any]) -> None:
    """Be what a new interpreter would be."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for descriptor, path in ((1, request["out"]), (2, request["err"])):
        opened = os.open(path, os.O_WRONLY)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv[:] = [sys.argv[0], *request["argv"]]
    sys.path.insert(0, request["cwd"])
    tempfile.tempdir = None
    random.seed()


def _run() -> None:
    """Run the command, and end as an interpreter does: threads first, exit functions, what was written, and objects."""
    shared = set(sys.modules)
    try:
        runpy.run_module("lightbus", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        if not isinstance(error.code, int | None):
            raise
        code = error.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    for name in set(sys.modules) - shared:
        del sys.modules[name]
    gc.collect()  # what was made here may complain; what was there before would take longer than most commands do
    os._exit(code & 0xFF)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _channel:
        del sys.path[0]  # ours
        for _name in PRELOADED:
            importlib.import_module(_name)
        gc.collect()
        gc.freeze()  # a copy shares the memory of what it does not look through
        _request = _requested(_channel)
    _become(_request)
    _run()
