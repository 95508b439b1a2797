"""
The interpreter of which tests use copies: a program that `forking` starts.

A copy of it runs a program as a new interpreter would, and ends as one does: it joins threads, runs exit functions,
flushes the output, and destroys the objects of the program. Objects that existed before the fork are not destroyed.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import importlib.util
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
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

LARGEST = 1 << 18
"""The most bytes of a request, which contains the environment."""

MEASURED = ("COVERAGE_PROCESS_START", "COVERAGE_FILE")
"""The variables that make coverage measure a program: the file of settings, and the file of data."""

PRELOADED = (
    # what a command needs
    "lightbus.cli.commands.run", "lightbus.cli.support.bus_module", "lightbus.cli.support.logs",
    "lightbus.cli.support.connection", "lightbus.cli.support.output", "lightbus.cli.support.publishers",
    "lightbus.cli.support.lists", "lightbus.cli.support.local_journals", "lightbus.cli.support.following",
    "lightbus.cli.commands.call", "lightbus.cli.commands.fire", "lightbus.cli.commands.tail",
    "lightbus.cli.commands.peers", "lightbus.cli.commands.groups", "lightbus.cli.commands.doctor",
    "lightbus.cli.commands.inspect", "lightbus.cli.commands.describe",
    "rich.console", "rich.table",
    # what a worker needs
    "lightbus.engine.worker", "lightbus.engine.threads", "lightbus.engine.events_api", "lightbus.engine.zmq_network",
    "lightbus.adapters.sqlite.journal_directory", "lightbus.adapters.zmq.bound_sockets",
    "lightbus.adapters.zmq.curve", "zmq.utils.z85", "cryptography.hazmat.primitives.kdf.hkdf", "lightbus.wire.answers",
    "lightbus.adapters.mdns.discovery", "lightbus.service.casting", "lightbus.plugins", "lightbus.plugins.health",
    "lightbus.cli.support.operating", "lightbus.cli.support.hangup", "zeroconf.asyncio", "jsonschema_rs",
    "encodings.ascii", "encodings.utf_8_sig", "pydantic._internal._dataclasses",
)  # fmt: skip
"""The modules that most programs import."""

SERVING = (
    "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.h11_impl", "lightbus.web.serving",
    "lightbus.dashboard.app", "lightbus.gateway.app",
    "lightbus.cli.commands.dashboard", "lightbus.cli.commands.gateway",
)  # fmt: skip
"""The modules that the dashboard and the gateway import. They need two packages that may be missing."""

OURS = sys.modules["__main__"]

CLONE = {"x86_64": 56, "aarch64": 220}
"""The number of the system call `clone`, by processor. With it the caller chooses the parent of its copy."""

# sched.h and sys/mount.h
CLONE_PARENT, CLONE_CHILD_SETTID = 0x00008000, 0x01000000
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE, MNT_DETACH = 0x1000, 0x4000, 0x80000, 2


class Sibling:
    """Forks like `os.fork`, except that the copy is a child of our parent, and not of this process."""

    def __init__(self) -> None:
        self._number = CLONE[os.uname().machine]
        self._syscall = ctypes.PyDLL(None, use_errno=True).syscall  # which keeps the interpreter locked
        self._syscall.restype = ctypes.c_long
        self._thread_id = _place_of_thread_id()

    def fork(self) -> int:
        """Return 0 in the copy, and its process id in ours. No locks are reset: only one thread may run."""
        flags = CLONE_PARENT | CLONE_CHILD_SETTID | signal.SIGCHLD
        own = ctypes.c_void_p(self._thread_id)
        ctypes.pythonapi.PyOS_BeforeFork()
        # The order of the last two differs between processors; one is used.
        pid = int(self._syscall(self._number, ctypes.c_ulong(flags), None, None, own, own))
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(ctypes.get_errno(), "cannot fork")
        return pid


def _place_of_thread_id() -> int:
    """Return where the C library stores the present thread's id, as it does itself after a fork."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_void_p
    thread = int(libc.pthread_self())
    size = ctypes.sizeof(ctypes.c_int)
    [place] = [at for at in range(thread, thread + 1024, size) if ctypes.c_int.from_address(at).value == os.getpid()]
    return place


def serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request; in the child, return the request. End the process when the channel is closed."""
    sibling = Sibling()
    assert len(os.listdir("/proc/self/task")) == 1, "a module that is imported for all has started a thread"
    while request := channel.recv(LARGEST):
        told, tell = os.pipe()
        pid = sibling.fork()
        if not pid:
            os.close(told)
            os.setsid()
            os.write(tell, b"1")
            os.close(tell)
            return dict(json.loads(request))
        os.close(tell)
        leads_a_session = os.read(told, 1)
        os.close(told)
        with suppress(OSError):
            channel.send(str(pid).encode() if leads_a_session else b"")
    os._exit(0)


def measure(settings: str, file: str) -> Any:
    """
    Return a Coverage object for the copies. What takes long in its start is done here, once for all of them.

    It reports no files that were not run: each copy would search for them, and the tests' own process reports them.
    """
    coverage, package = importlib.import_module("coverage"), importlib.import_module("lightbus")
    measuring = coverage.Coverage(
        data_file=file or None,
        data_suffix=True,
        config_file=settings,
        source_pkgs=[],
        include=[f"{next(iter(package.__path__))}/*"],
    )
    patched = measuring.get_option("run:patch")
    measuring.set_option("run:patch", [])
    measuring.set_option("run:disable_warnings", ["no-data-collected", "already-imported"])
    measuring.start()
    measuring.stop()
    measuring.set_option("run:patch", patched)
    return measuring


def move_to(namespace: str, hostname: str) -> None:
    """Do what `ip netns exec NAMESPACE unshare --uts` does: use a host name and a network of one's own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int, what: str) -> None:
        if result:
            raise OSError(ctypes.get_errno(), f"{what} in the network namespace {namespace}")

    def mount(source: str, target: str, kind: str, flags: int) -> None:
        must(libc.mount(source.encode(), target.encode(), kind.encode(), flags, None), f"cannot mount {target}")

    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    must(libc.setns(descriptor, CLONE_NEWNET), "cannot be")
    os.close(descriptor)
    must(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "cannot have mounts and a name of its own")
    mount("", "/", "none", MS_SLAVE | MS_REC)
    libc.umount2(b"/sys", MNT_DETACH)
    mount(namespace, "/sys", "sysfs", 0)
    for file in Path("/etc/netns", namespace).glob("*"):
        mount(str(file), f"/etc/{file.name}", "none", MS_BIND)
    socket.sethostname(hostname)


def change_to(place: dict[str, Any]) -> None:
    """Do what the commands of a `forking.Place` do, if the user is unchanged."""
    libc = ctypes.CDLL(None, use_errno=True)
    if place["mounts"]:
        commands = " && ".join(["mount --make-rprivate /", *place["mounts"]])
        if libc.unshare(CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "cannot have mounts of its own")
        subprocess.run(["sh", "-c", commands], check=True)
    if place["hostname"] is not None:
        if libc.unshare(CLONE_NEWUTS):
            raise OSError(ctypes.get_errno(), "cannot have a name of its own")
        socket.sethostname(place["hostname"])
    if place["umask"] is not None:
        os.umask(place["umask"])


def become(request: dict[str, Any], measuring: Any) -> None:
    """Set environment, output, directory and the like to what a new interpreter would have."""
    os.environ.clear()
    os.environ.update(request["env"])
    for descriptor, path in enumerate((request["in"], request["out"], request["err"])):
        opened = os.open(path, (os.O_WRONLY if descriptor else os.O_RDWR) | os.O_NOCTTY)
        os.dup2(opened, descriptor)
        os.close(opened)
    if request["host"]:
        move_to(*request["host"])
    if request["place"]:
        change_to(request["place"])
    os.chdir(request["cwd"])
    tempfile.tempdir = None
    random.seed()
    if measuring is not None:
        measuring.start()
    elif "COVERAGE_PROCESS_START" in os.environ:
        importlib.import_module("coverage").process_startup()


def program_of(argv: list[str]) -> Callable[[], object]:
    """Return a function that runs a program: `["-m", module, ...]`, `["-c", code, ...]` or `[path, ...]`."""
    kind, *rest = argv
    if kind == "-m":
        sys.argv[:] = [sys.argv[0], *rest[1:]]
        sys.path.insert(0, str(Path.cwd()))
        return lambda: runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    main = sys.modules["__main__"] = ModuleType("__main__")
    if kind == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        return lambda: exec(compile(rest[0], "<string>", "exec"), vars(main))
    sys.argv[:] = argv
    sys.path.insert(0, str(Path(kind).resolve().parent))
    main.__file__ = str(Path.cwd() / kind)
    main.__loader__ = SourceFileLoader("__main__", kind)
    return lambda: exec(compile(Path(kind).read_bytes(), main.__file__ or kind, "exec"), vars(main))


def run(program: Callable[[], object]) -> int:
    """Run a program, print its exception, and return its exit code; a negative one is the signal that ended it."""
    try:
        program()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        error = error.with_traceback(_without_ours(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def end(code: int, shared: set[str], measuring: Any) -> None:
    """End, with all exit functions; modules that are `shared` stay unchanged."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if measuring is not None:
        measuring.stop()
        measuring.save()
    if threading.active_count() == 1:  # others go on, and would miss it
        _forget_made(shared)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _forget_made(shared: set[str]) -> None:
    """Destroy the objects of the program, since that may cause warnings. All others would take too long."""
    program = sys.modules["__main__"]
    if program is not OURS:
        vars(program).clear()
    for name in set(sys.modules) - shared:
        del sys.modules[name]
    gc.collect()


def main() -> None:
    """Import the package, and wait for requests; in a copy, run the requested program."""
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        patience = importlib.import_module("patience")
        del sys.path[0]  # ours
        can_serve = all(map(importlib.util.find_spec, ("starlette", "uvicorn")))
        for name in (*PRELOADED, *(SERVING if can_serve else ())):
            importlib.import_module(name)
        patience.patient_calls().__enter__()  # for good
        measuring = measure(*sys.argv[2:]) if sys.argv[2:] else None
        gc.collect()
        gc.freeze()  # a copy shares the memory of what it does not look through
        request = serve(channel)
    if [request["env"].get(name, "") for name in MEASURED] != sys.argv[2:]:
        measuring = None  # the program is not measured, or in another way
    become(request, measuring)
    shared = set(sys.modules)
    end(run(program_of(request["argv"])), shared, measuring)


if __name__ == "__main__":
    main()
