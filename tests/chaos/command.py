"""The command line of `nox -s chaos`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .harms import HARMS
from .run import Plan, run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, print the result line, and return the exit code: 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="nox -s chaos --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, default=None, help="repeats what was done to whom (a random one)")
    parser.add_argument("--rate", type=int, default=900, help="events a second that are fired, about (900)")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two blows, on average (4)")
    names = ", ".join(HARMS)
    parser.add_argument(
        "--harms",
        type=lambda text: tuple(name for name in text.split(",") if name),
        default=HARMS,
        help=f"what is done besides killing, stopping and restarting, with commas between (all: {names}; '' for none)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the ledgers and logs, and say where they are")
    options = parser.parse_args(argv)
    if unknown := set(options.harms) - set(HARMS):
        parser.error(f"unknown harms: {', '.join(sorted(unknown))}; there are {names}")
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"chaos seed: {seed}", flush=True)
    plan = Plan(
        seconds=options.minutes * 60, seed=seed, rate=options.rate, pause=options.pause, harms=tuple(options.harms)
    )
    directory = Path(tempfile.mkdtemp(prefix="lb-chaos-", dir="/tmp"))  # short: sockets are in it
    try:
        outcome = run(plan, directory)
    finally:
        if options.keep:
            print(f"ledgers and logs are in {directory}", flush=True)
        else:
            shutil.rmtree(directory)
    print(outcome.line(plan), flush=True)
    for problem in outcome.problems[:20]:
        print(problem, file=sys.stderr)
    return 1 if outcome.problems else 0
