"""The command line: `python tests/bench [--quick] [--rows NAME,...] [--json FILE] [--security host] [--raw-only]`."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from helpers import Processes

from .programs import Programs
from .report import print_table, write_json
from .rounds import Notebook, lines, run
from .rows import ROWS, Row, chosen
from .sides import Bus, Raw

__all__ = ["main"]

TESTS = Path(__file__).resolve().parents[1]
QUICK = 20
"""By how much `--quick` shortens each measurement: enough to see that all of them run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if a row could not be measured (a target that is missed is no failure)."""
    options = _parse(arguments)
    with _programs(options.security, QUICK if options.quick else 1) as programs:
        raw = Notebook("raw", Raw(programs), _say)
        ours = Notebook("lightbus", None if options.raw_only else Bus(programs), _say)
        run(options.rows, raw, ours, rounds=options.rounds)
    found = lines(options.rows, raw, ours)
    print_table(found, f"lightbus ({options.security}) against raw pyzmq, medians of {options.rounds} rounds")
    if options.json:
        write_json(found, options.json, {"security": options.security, "rounds": options.rounds})
    return 1 if any(line.failure for line in found) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the bus against raw ZeroMQ in the same run.")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), metavar="NAME,...", help="only these rows")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that all runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--raw-only", action="store_true", help="measure the reference alone")
    parser.add_argument(
        "--security",
        choices=("insecure", "host"),
        default="insecure",
        help="insecure: TCP on 127.0.0.1, as the reference (default); host: ipc",
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _rows(names: str) -> list[Row]:
    try:
        return chosen(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _programs(security: str, divisor: int) -> Iterator[Programs]:
    """Give what starts the measured programs, with directories of its own; none of either is left."""
    root = Path(tempfile.mkdtemp(prefix="lb-", dir="/tmp"))  # short: a unix socket's path has 107 bytes at most
    processes = Processes(root)
    try:
        yield Programs(processes, _environment(root, security), divisor)
    finally:
        processes.end()
        shutil.rmtree(root, ignore_errors=True)


def _environment(root: Path, security: str) -> dict[str, str]:
    """Return what leads the programs to loopback, to each other and to the package `bench`."""
    environment = {
        "LIGHTBUS_SECURITY": security,
        "LIGHTBUS_BUS": f"bench-{secrets.token_hex(4)}",
        "LIGHTBUS_DATA_DIR": str(root / "data"),
        "XDG_RUNTIME_DIR": str(root),
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
    }
    if security == "insecure":
        environment["LIGHTBUS_INTERFACES"] = "127.0.0.1"
    return environment
