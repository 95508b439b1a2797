"""
`python tests/chaos/steady.py`: restart a publisher and a member every few seconds, and watch those that stay.

What they hold (descriptors, threads, memory, lines of log) and what lies on the disk must not grow with the number
of restarts. Events flow all the while; only as many are fired as to have something to adopt and to hand out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import Process, Processes, wait_until

T = TypeVar("T")

__all__ = ["Sample", "Steady", "main", "steady"]

PROGRAMS = Path(__file__).parent / "programs"
SLACK = {"descriptors": 6, "threads": 4, "memory": 8.0, "files": 6}
"""How much the last quarter may be above the second one: a journal just adopted, a thread just needed, MiB."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources of one process at one moment; memory in MiB, processor time in seconds."""

    descriptors: int
    threads: int
    memory: float
    processor: float
    lines: int


@dataclass(slots=True)
class Steady:
    """The results: samples by process, files below the data and runtime directories, and restarts by process."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    restarts: int = 0
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return a table: each process, with its maxima in the second quarter and in the last one."""
        rows = [f"restarts {self.restarts}"]
        for name, samples in self.samples.items():
            early, late = _quarters(samples)
            cells = [
                f"{what} {_most(early, what):g} -> {_most(late, what):g}"
                for what in ("descriptors", "threads", "memory")
            ]
            rows.append(f"{name}: {', '.join(cells)}, lines of log {samples[0].lines} -> {samples[-1].lines}")
        early_files, late_files = _quarters(self.files)
        rows.append(
            f"files {max(early_files)} -> {max(late_files)}, MiB {self.megabytes[0]:.1f} -> {self.megabytes[-1]:.1f}"
        )
        return rows

    def judge(self) -> None:
        """Record whatever grew."""
        for name, samples in self.samples.items():
            early, late = _quarters(samples)
            for what in ("descriptors", "threads", "memory"):
                before, after = _most(early, what), _most(late, what)
                if after > before + SLACK[what]:
                    self.problems.append(f"{what} of {name} grew from {before:g} to {after:g}")
        early_files, late_files = _quarters(self.files)
        if max(late_files) > max(early_files) + SLACK["files"]:
            self.problems.append(f"files grew from {max(early_files)} to {max(late_files)}")


def _quarters(values: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    size = max(1, len(values) // 4)
    return values[size : 2 * size] or values[:1], values[-size:]


def _most(samples: Sequence[Sample], what: str) -> float:
    return float(max(getattr(sample, what) for sample in samples))


def sample(process: Process) -> Sample:
    """Measure a running process."""
    proc = Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    times = (proc / "stat").read_text().rpartition(")")[2].split()
    return Sample(
        descriptors=len(os.listdir(proc / "fd")),
        threads=int(status["Threads"]),
        memory=round(int(status["VmRSS"].split()[0]) / 1024, 1),
        processor=(int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
        lines=process.output.count("\n"),
    )


def steady(seconds: float, every: float, directory: Path, *, rate: int = 50, look: float = 10.0) -> Steady:
    """Run in an empty directory, restart regularly, and return the results."""
    for name in ("ledgers", "logs", "run", "data"):
        (directory / name).mkdir(mode=0o700)
    processes, seen = Processes(directory / "logs"), Steady()
    try:
        _play(processes, seen, seconds, every, directory, rate, look)
    finally:
        processes.end()
    seen.judge()
    return seen


def _play(
    processes: Processes, seen: Steady, seconds: float, every: float, directory: Path, rate: int, look: float
) -> None:
    base = _environment(directory)
    firing = {**base, "CHAOS_RATE": str(rate)}
    member = {**base, "CHAOS_GROUP": "mail"}

    def start(program: str, env: Mapping[str, str]) -> Process:
        return processes.worker(program, cwd=PROGRAMS, env=env)

    stays = {"publisher": start("store", firing), "member": start("member", member)}
    passing = {"store": start("store", firing), "member": start("member", member)}
    live = re.compile(r"Events of store .* arrive$", re.MULTILINE)
    wait_until(lambda: len(live.findall(stays["member"].output)) >= 2, 60, what="the member follows both publishers")
    stays["script"] = processes.python("script.py", cwd=PROGRAMS, env=firing, name="script")
    (directory / "ledgers/go").touch()
    began = time.monotonic()
    looked = restarted = began
    while (now := time.monotonic()) < began + seconds:
        if now - looked >= look:
            looked = now
            _look(stays, seen, directory)
        if now - restarted >= every:
            restarted = now
            program = ("store", "member")[seen.restarts % 2]
            _restart(passing, program, seen.restarts, lambda name: start(name, firing if name == "store" else member))
            seen.restarts += 1
        time.sleep(0.1)  # the pace of this loop, and of nothing else
    _look(stays, seen, directory)


def _restart(passing: dict[str, Process], program: str, count: int, start: Callable[[str], Process]) -> None:
    process = passing[program]
    if count % 4 < 2:
        process.kill()
    else:
        process.signal(signal.SIGTERM)
        process.wait(60)
    passing[program] = start(program)


def _look(stays: Mapping[str, Process], seen: Steady, directory: Path) -> None:
    for name, process in stays.items():
        if not process.running:
            seen.problems.append(f"{name} ended of itself: {process.report()[-2000:]}")
            raise RuntimeError(seen.problems[-1])
        seen.samples.setdefault(name, []).append(sample(process))
    found = [path for part in ("run", "data") for path in (directory / part).rglob("*")]
    seen.files.append(len(found))
    sizes = []
    for path in found:
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # removed just now
            continue
    seen.megabytes.append(sum(sizes) / 2**20)


def _environment(directory: Path) -> dict[str, str]:
    config = directory / "config.json"
    config.write_text(json.dumps({"bus": {"log_level": "info"}}))
    return {
        "LIGHTBUS_BUS": f"steady-{os.getpid()}",
        "LIGHTBUS_DATA_DIR": str(directory / "data"),
        "LIGHTBUS_CONFIG": str(config),
        "XDG_RUNTIME_DIR": str(directory / "run"),
        "CHAOS_LEDGERS": str(directory / "ledgers"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, print the results, and return the exit code: 1 if anything grew."""
    parser = argparse.ArgumentParser(prog="nox -s steady --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (20)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two restarts (10)")
    parser.add_argument("--rate", type=int, default=50, help="events a second that each of three fires (50)")
    options = parser.parse_args(argv)
    directory = Path(tempfile.mkdtemp(prefix="lb-steady-", dir="/tmp"))  # short: sockets are in it
    try:
        seen = steady(options.minutes * 60, options.every, directory, rate=options.rate)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n".join(seen.lines()), flush=True)
    for problem in seen.problems:
        print(problem, file=sys.stderr)
    return 1 if seen.problems else 0


if __name__ == "__main__":
    sys.exit(main())
