"""
Starts Python programs as copies of an interpreter that has imported the package, which takes much less time.

Tests start about a thousand programs, and for most of them the import of the package takes longer than all the rest. So
one interpreter imports it (`interpreter`), and forks for each program. The copy gets the arguments, the directory, the
environment and the output files that a new interpreter would get. It is a child of the tests' process, like any other
program: Linux allows a process to make its copy a child of its own parent.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .bytecode import kept_for
from .interpreter import CLONE, LARGEST, MEASURED

__all__ = ["ForkServer", "Forked", "OtherHost", "Place", "can_fork"]

PROGRAM = Path(__file__).with_name("interpreter.py")


class OtherHost(NamedTuple):
    """Another host, on the same machine: a network namespace, and its host name."""

    namespace: str
    hostname: str

    def command(self, argv: list[str]) -> list[str]:
        """Return the command that runs a program there."""
        named = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", named, self.hostname, *argv]


class Place(NamedTuple):
    """
    A restricted environment for a program.

    Attributes:
        mounts: shell commands that change mounts; they are run in a mount namespace of the program's own.
        hostname: the name of the host, as the program sees it.
        umask: the permissions that new files do not get.
        user: the numbers of the user and of the group as which it runs.
        without: environment variables that are removed.

    """

    mounts: tuple[str, ...] = ()
    hostname: str | None = None
    umask: int | None = None
    user: int | None = None
    without: tuple[str, ...] = ()

    def command(self, argv: list[str]) -> list[str]:
        """Return the command that runs a program there, in a new interpreter."""
        if self.hostname is not None:
            set_name = "import socket, os, sys; socket.sethostname(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
            argv = ["unshare", "--uts", sys.executable, "-c", set_name, self.hostname, *argv]
        if self.umask is not None:
            argv = ["sh", "-c", f'umask {self.umask:o}; exec "$@"', "sh", *argv]
        if self.user is not None:
            argv = ["setpriv", "--reuid", str(self.user), "--regid", str(self.user), "--clear-groups", *argv]
            argv = ["env", *(f"{name}={value}" for name, value in kept_for(self.user).items()), *argv]
        if self.without:
            argv = ["env", *(f"--unset={name}" for name in self.without), *argv]
        if self.mounts:
            made = " && ".join([*self.mounts, 'exec "$@"'])
            argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", made, "sh", *argv]
        return argv


class Forked(subprocess.Popen[bytes]):
    """A child process that the fork server has started, with the interface of `subprocess.Popen`."""

    def __init__(self, pid: int, argv: list[str]) -> None:
        self.args, self.pid = argv, pid
        self.returncode: Any = None
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._waitpid_lock = True, threading.Lock()


def can_fork() -> bool:
    """Return whether this system supports it."""
    return sys.platform == "linux" and os.uname().machine in CLONE


class ForkServer:
    """The interpreter that forks. It ends with `close`, or when we end."""

    def __init__(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("LIGHTBUS_", "COVERAGE_"))}
        env["PYTHONUNBUFFERED"] = "1"
        measured = [os.environ.get(name, "") for name in MEASURED] if MEASURED[0] in os.environ else []
        self._settings = _settings(env)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._channel, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(theirs.fileno()), *measured],
                env=env,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the interpreter."""
        return self._popen.pid

    def can_start(self, argv: list[str], env: Mapping[str, str], host: OtherHost | Place | None = None) -> bool:
        """
        Return whether a program can be a copy: it is run by Python, with the settings of this interpreter.

        A program of another user cannot: this Python may be in a home directory that the user cannot read.
        """
        if isinstance(host, Place) and host.user is not None:
            return False
        kind = argv[1] if argv[0] == sys.executable and len(argv) > 1 else ""
        return (kind in ("-m", "-c") or kind.endswith(".py")) and _settings(env) == self._settings

    def start(
        self,
        argv: list[str],
        *,
        cwd: Path | str | None,
        env: Mapping[str, str],
        out: Path | str,
        err: Path | str,
        read: Path | str = os.devnull,
        host: OtherHost | Place | None = None,
    ) -> Forked:
        """Start a program for which `can_start` is true, here or elsewhere. Its output goes to two existing files."""
        where = os.fspath(cwd or Path.cwd())
        request: dict[str, Any] = {"argv": argv[1:], "cwd": where, "env": dict(env)}
        request["in"], request["out"], request["err"] = str(read), str(out), str(err)
        request["host"], request["place"] = (None, host._asdict()) if isinstance(host, Place) else (host, None)
        self._channel.sendall(json.dumps(request).encode())
        pid = int(self._channel.recv(16) or b"0")
        if not pid:
            raise RuntimeError("the interpreter that forks for tests has ended")
        return Forked(pid, argv)

    def close(self) -> None:
        """End it; programs that it has started continue."""
        self._channel.close()
        self._popen.wait()


def _settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that an interpreter reads when it starts."""
    return {name: env[name] for name in env if name.startswith(("PYTHON", "LC_", "LANG", "TZ", "LD_"))}
