"""One run: processes, their failures, and the final check."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from helpers import Process, Processes, wait_until
from helpers.forking import ForkServer

from .harms import Harms
from .ledger import Line, lines

__all__ = ["Outcome", "Plan", "run"]

PROGRAMS = Path(__file__).parent / "programs"
GROUPS = ("mail", "audit", "index")
MEMBER_TIMEOUT = 3.0
"""Seconds after which a member that stands still loses its partitions: short, so that it happens often."""

HARM = 0.25
"""The part of the blows that fall on all at once."""

DRAIN = 90.0
"""Seconds for what is still owed, once nothing is done to anybody any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What to do: for how long, how many events a second, and how many seconds there are between two blows.

    It goes on beyond `seconds` until there were as many as `least_blows`: chance may have it that they are long.
    """

    seconds: float
    seed: int
    least_blows: int = 0
    rate: int = 900
    pause: float = 4.0
    publishers: int = 3
    members: int = 3
    scripts: int = 2
    groups: tuple[str, ...] = GROUPS
    harms: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    """The results of a run."""

    events: int = 0
    handled: int = 0
    duplicates: int = 0
    lost: int = 0
    seconds: float = 0.0
    blows: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def line(self, plan: Plan) -> str:
        """Return the summary line."""
        return (
            f"events {self.events}, groups {len(plan.groups)}, handled {self.handled}, lost {self.lost}, "
            f"duplicates {self.duplicates}, kills {self.blows['kill']}, stops {self.blows['stop']}, "
            f"restarts {self.blows['restart']}, {self._harms(plan)}order {'kept' if not self._disorder else 'broken'}, "
            f"minutes {self.seconds / 60:.1f}, seed {plan.seed}"
        )

    def _harms(self, plan: Plan) -> str:
        counted = [f"{name} {self.blows[name]}" if self.blows[name] else name for name in plan.harms]
        return "".join(f"{each}, " for each in counted)

    @property
    def _disorder(self) -> bool:
        return any(problem.startswith("order") for problem in self.problems)


class _Actor:
    """One role in the run: its process is replaced when it ends."""

    def __init__(self, name: str, processes: Processes, program: str, env: Mapping[str, str]) -> None:
        self.name = name
        self._processes, self._program, self._env = processes, program, env
        self.history: list[str] = []
        self.process = self._start()

    def _start(self) -> Process:
        if self._program == "script":
            started = self._processes.python("script.py", cwd=PROGRAMS, env=self._env, name=self.name)
        else:
            started = self._processes.worker(self._program, cwd=PROGRAMS, env=self._env)
        self.history.append(f"{time.monotonic():.3f} {self.name} {started.pid} started")
        return started

    def strike(self, how: str) -> None:
        """Cause a failure of its process; an ended one is replaced at once."""
        self.history.append(f"{time.monotonic():.3f} {self.name} {self.process.pid} {how}")
        if how == "kill":
            self.process.kill()
        else:
            self.process.signal(signal.SIGTERM)
            self.process.wait(60)
        self.process = self._start()


def run(plan: Plan, directory: Path, server: ForkServer | None = None) -> Outcome:
    """Run a plan in an empty directory, with copies of an interpreter if one forks; return the results."""
    chance = random.Random(plan.seed)
    ledgers, logs = directory / "ledgers", directory / "logs"
    for each in (ledgers, logs, directory / "run", directory / "data"):
        each.mkdir(mode=0o700)
    processes = Processes(logs, server)
    outcome = Outcome()
    harms = Harms(plan.harms, directory)
    try:
        env = _environment(plan, directory, harms)
        actors = _cast(plan, env, processes)
        _await_groups(plan, actors)
        (ledgers / "go").touch()
        began = time.monotonic()
        while (left := began + plan.seconds - time.monotonic()) > 0 or outcome.blows.total() < plan.least_blows:
            pause = chance.expovariate(1 / plan.pause)
            _pause(min(left, pause) if left > 0 else pause, actors)
            if time.monotonic() < began + plan.seconds or outcome.blows.total() < plan.least_blows:
                if harms.blows and chance.random() < HARM:
                    outcome.blows[name := chance.choice(harms.blows)] += 1
                    harms.strike(name, chance, processes, env)
                else:
                    _blow(chance, actors, outcome)
        outcome.seconds = time.monotonic() - began
        _settle(actors, ledgers, plan)
        _reckon(plan, ledgers, outcome)
        if outcome.problems:
            outcome.problems += [line for actor in actors for line in actor.history]
    finally:
        processes.end()
        harms.end()
    return outcome


def _environment(plan: Plan, directory: Path, harms: Harms) -> dict[str, str]:
    config = directory / "config.json"
    config.write_text(json.dumps({"worker": {"member_timeout": MEMBER_TIMEOUT}, "bus": {"log_level": "info"}}))
    return {
        **harms.environment(plan.seed),
        "LIGHTBUS_BUS": f"chaos-{os.getpid()}",
        "LIGHTBUS_DATA_DIR": str(directory / "data"),
        "LIGHTBUS_CONFIG": str(config),
        "XDG_RUNTIME_DIR": str(directory / "run"),
        "CHAOS_LEDGERS": str(directory / "ledgers"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def _cast(plan: Plan, base: Mapping[str, str], processes: Processes) -> list[_Actor]:
    each = max(1, plan.rate // (plan.publishers + plan.scripts))
    firing = {**base, "CHAOS_RATE": str(each)}
    actors = [_Actor(f"publisher-{n}", processes, "store", firing) for n in range(plan.publishers)]
    for group in plan.groups:
        env = {**base, "CHAOS_GROUP": group}
        actors += [_Actor(f"{group}-{n}", processes, "member", env) for n in range(plan.members)]
    actors += [_Actor(f"script-{n}", processes, "script", firing) for n in range(plan.scripts)]
    return actors


def _await_groups(plan: Plan, actors: list[_Actor]) -> None:
    """Return when every group exists at every publisher."""
    live = re.compile(r"Events of store .* arrive$", re.MULTILINE)
    members = [actor for actor in actors if actor.name.startswith(plan.groups)]
    wait_until(
        lambda: all(len(live.findall(member.process.output)) >= plan.publishers for member in members),
        30,
        what="all members follow all publishers",
    )


def _pause(seconds: float, actors: list[_Actor]) -> None:
    """Wait for the next failure; a process that ended by itself in the meantime is a finding."""
    time.sleep(seconds)
    for actor in actors:
        if not actor.process.running:
            print(f"{actor.process!r} ended of itself:\n{actor.process.report()[-3000:]}", file=sys.stderr, flush=True)
            actor.history.append(f"{time.monotonic():.3f} {actor.name} ended of itself")
            actor.process = actor._start()


def _blow(chance: random.Random, actors: list[_Actor], outcome: Outcome) -> None:
    actor = chance.choice(actors)
    how = chance.choices(["kill", "stop", "restart"], weights=[60, 25, 15])[0]
    outcome.blows[how] += 1
    if how != "stop":
        actor.strike(how)
        return
    # Shorter than a heartbeat is missed, longer than that, or so long that the partitions are given to others.
    seconds = chance.choice([0.5, 2.0, MEMBER_TIMEOUT + 2.5])
    actor.history.append(f"{time.monotonic():.3f} {actor.name} {actor.process.pid} stopped for {seconds}")
    actor.process.signal(signal.SIGSTOP)
    time.sleep(seconds)
    actor.process.signal(signal.SIGCONT)


def _settle(actors: list[_Actor], ledgers: Path, plan: Plan) -> None:
    """Stop firing, and wait until every group has handled everything, or for a maximum time."""
    for actor in actors:
        if actor.name.startswith("script"):
            actor.process.kill()
    for actor in actors:
        if actor.name.startswith("publisher"):  # from now on they publish, and fire nothing
            actor._env = {key: value for key, value in actor._env.items() if key != "CHAOS_RATE"}
            actor.strike("restart")
    owed = {line.id for line in lines(ledgers, "fired")}
    end = time.monotonic() + DRAIN
    for group in plan.groups:
        while not owed <= {line.id for line in lines(ledgers, "handled", group)} and time.monotonic() < end:
            time.sleep(1.0)


def _reckon(plan: Plan, ledgers: Path, outcome: Outcome) -> None:
    fired = {line.id: line for line in lines(ledgers, "fired")}
    outcome.events = len(fired)
    for group in plan.groups:
        handled = list(lines(ledgers, "handled", group))
        first: dict[str, Line] = {}
        for line in sorted(handled):
            first.setdefault(line.id, line)
        outcome.handled += len(handled)
        outcome.duplicates += len(handled) - len(first)
        missing = [line for id, line in fired.items() if id not in first]
        outcome.lost += len(missing)
        outcome.problems += [f"lost to {group}: {line}" for line in missing[:100]]
        outcome.problems += _disorder(group, first)
    if not fired:
        outcome.problems.append("nothing was fired at all")


def _disorder(group: str, first: Mapping[str, Line]) -> list[str]:
    """Return where the first handlings of one key of one journal were not in the order of their sequences."""
    latest: dict[tuple[str, str], tuple[int, Line]] = {}
    found = []
    for line in first.values():  # by time
        journal, _, number = line.native_id.rpartition("-")
        if line.key != "-":
            before = latest.get((journal, line.key))
            if before is not None and before[0] > int(number):
                found.append(f"order in {group}: {line} after {before[1]}")
            else:
                latest[journal, line.key] = int(number), line
    return found
