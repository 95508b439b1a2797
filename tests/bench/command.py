"""The command line: `python tests/bench [--rows NAME,...] [--security MODES] [--compare REF] [--steps] ...`."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from helpers import Processes
from lightbus.config.keys import BusKey

from .growth import GROWTHS, measure, plot
from .programs import Programs
from .report import print_comparison, print_modes, print_table, write_json
from .rounds import Notebook, lines, run, run_in_turn
from .rows import ROWS, Row, chosen
from .sides import Bus, Raw
from .steps import count_all

__all__ = ["main", "programs_for"]

TESTS = Path(__file__).resolve().parents[1]
MODES = ("insecure", "bus_key", "host")
QUICK = 20
"""By how much `--quick` shortens each measurement: enough to see that all of them run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if a row could not be measured (a target that is missed is no failure)."""
    options = _parse(arguments)
    divisor = QUICK if options.quick else 1
    if options.steps:
        with programs_for(options.security[0], divisor) as counted:
            return count_all(counted, rounds=options.rounds, write=options.write, say=_say)
    if options.plot:
        with programs_for(options.security[0]) as started:
            grown = measure(started, GROWTHS, divisor=divisor, say=_say)
        print(json.dumps(grown, indent=2))
        plot(grown)
        return 0
    with ExitStack() as stack:
        programs = [stack.enter_context(programs_for(mode, divisor)) for mode in options.security]
        if options.compare:
            return _compare(
                options, stack.enter_context(_older(options.compare, options.security[0], divisor)), programs[0]
            )
        raw = Notebook("raw", Raw(programs[0]), _say)
        ours, *others = [
            Notebook(mode, None if options.raw_only else Bus(started), _say)
            for mode, started in zip(options.security, programs, strict=True)
        ]
        run(options.rows, raw, ours, rounds=options.rounds, others=others)
    found = lines(options.rows, raw, ours)
    print_table(found, f"lightbus ({ours.name}) against raw pyzmq, medians of {options.rounds} rounds")
    beside = {each.name: lines(options.rows, raw, each) for each in (ours, *others)}
    if others and not options.raw_only:
        print_modes(beside)
    if options.json:
        write_json(found, options.json, {"security": ours.name, "rounds": options.rounds}, beside)
    return 1 if any(line.failure for each in beside.values() for line in each) else 0


def _compare(options: argparse.Namespace, older: Programs, programs: Programs) -> int:
    """Measure this package and the one of an earlier commit in turn, and print both."""
    before, now = Notebook(options.compare, Bus(older), _say), Notebook("now", Bus(programs), _say)
    run_in_turn(options.rows, before, now, rounds=options.rounds)
    print_comparison(options.rows, before, now, rounds=options.rounds)
    return 1 if before.failures or now.failures else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the bus against raw ZeroMQ in the same run.")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), metavar="NAME,...", help="only these rows")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that all runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--compare", metavar="REF", help="measure the package of this commit in turn with this one")
    parser.add_argument("--steps", action="store_true", help="count calls, allocations, system calls and wake-ups")
    parser.add_argument("--write", action="store_true", help="write what is counted into the document, too")
    parser.add_argument("--plot", action="store_true", help="measure while something grows, and plot it")
    parser.add_argument("--raw-only", action="store_true", help="measure the reference alone")
    parser.add_argument(
        "--security",
        type=_modes,
        default=list(MODES),
        metavar="MODE,...",
        help="insecure: TCP on 127.0.0.1, as the reference; bus_key: the same, encrypted; host: ipc. The first is "
        "measured in full, the others in some rows, side by side (default: all three)",
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _rows(names: str) -> list[Row]:
    try:
        return chosen(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _modes(names: str) -> list[str]:
    wanted = names.split(",")
    if unknown := set(wanted) - set(MODES):
        raise argparse.ArgumentTypeError(f"no such mode: {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    return wanted


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _older(reference: str, security: str, divisor: int) -> Iterator[Programs]:
    """Return the same for the package at a commit; its dependencies are the installed ones."""
    with tempfile.TemporaryDirectory() as directory:
        archive = subprocess.run(["git", "archive", reference, "lightbus"], cwd=TESTS.parent, capture_output=True)
        if archive.returncode:
            raise SystemExit(f"bench: no package at {reference!r}: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)
        with programs_for(security, divisor, package=directory) as programs:
            yield programs


@contextmanager
def programs_for(security: str, divisor: int = 1, package: str = "") -> Iterator[Programs]:
    """Return a starter of the measured programs, with its own directories; both are removed in the end."""
    root = Path(tempfile.mkdtemp(prefix="lb-", dir="/tmp"))  # short: a unix socket's path has 107 bytes at most
    processes = Processes(root)
    try:
        yield Programs(processes, _environment(root, security, package), divisor)
    finally:
        processes.end()
        shutil.rmtree(root, ignore_errors=True)


def _place_of_bytecode(root: Path, package: str) -> str:
    """Return where programs keep compiled modules: where we do, if we do, for to compile all of them takes seconds."""
    is_ours = not package and not sys.dont_write_bytecode
    return sys.pycache_prefix or "" if is_ours else str(root / "bytecode")


def _environment(root: Path, security: str, package: str) -> dict[str, str]:
    """Return the variables that direct the programs to loopback, to each other, and to `bench` (and `lightbus`)."""
    environment = {
        "LIGHTBUS_SECURITY": security,
        "LIGHTBUS_BUS": f"bench-{secrets.token_hex(4)}",
        "LIGHTBUS_DATA_DIR": str(root / "data"),
        "XDG_RUNTIME_DIR": str(root),
        "PYTHONDONTWRITEBYTECODE": "",  # users have it compiled: the shell that measures must not decide
        "PYTHONPYCACHEPREFIX": _place_of_bytecode(root, package),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, str(TESTS), os.environ.get("PYTHONPATH", "")])),
    }
    if package:  # no lines of it are to be counted as covered: its files are gone by then
        environment |= {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    if security != "host":
        environment["LIGHTBUS_INTERFACES"] = "127.0.0.1"
    if security == "bus_key":
        environment["LIGHTBUS_BUS_KEY"] = BusKey.generate().text
    return environment
