"""Failures of all processes of a run: the disk is filled, clocks are moved, a group comes and goes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from helpers import Process, Processes, wait_until

from .beset import clock_file

__all__ = ["HARMS", "Harms"]

HARMS = ("drop", "clocks", "disk", "groups")
"""Frames get lost; wall clocks jump; the disk is full for a while; a group is added and removed."""

DROP = 0.01
"""The part of the frames between consumers and publishers that is lost, in either direction."""

JUMPS = (-10 * 365 * 86_400.0, -86_400.0, -3.0, 3.0, 7200.0, 40 * 86_400.0)
"""Seconds by which the wall clocks are wrong for a while."""

FULL = 3.0
"""Seconds for which the disk is full."""

DISK_BYTES = 2 * 1024**3
PASSING = "passing"
"""The group that comes and goes. It owes nobody anything: what it handles is not looked at."""


class Harms:
    """
    The failures of one run. Those that this host does not allow are left out, and reported.

    Args:
        names: which of `HARMS`.
        directory: of the run; the processes keep their data in `data` in it.
    """

    def __init__(self, names: tuple[str, ...], directory: Path) -> None:
        self.names = [*names]
        self._directory = directory
        self._data = directory / "data"
        self._is_mounted = "disk" in names and self._mount()
        if "disk" in names and not self._is_mounted:
            print("the disk is not filled: that needs a file system of its own, and so root", file=sys.stderr)
            self.names.remove("disk")

    def environment(self, seed: int) -> dict[str, str]:
        """Return the variables for the processes' own failures."""
        env = {"CHAOS_SEED": str(seed)}
        if "drop" in self.names:
            env["CHAOS_DROP"] = str(DROP)
        if "clocks" in self.names:
            env["CHAOS_CLOCK"] = str(clock_file(self._directory))
            self._set_clocks(0.0)
        return env

    @property
    def blows(self) -> list[str]:
        """Return those that happen at certain times, and not all the time."""
        return [name for name in self.names if name != "drop"]

    def strike(self, name: str, chance: random.Random, processes: Processes, env: Mapping[str, str]) -> None:
        """Cause one of them, and return when it is over."""
        if name == "clocks":
            self._set_clocks(chance.choice(JUMPS))
            time.sleep(chance.uniform(1.0, 4.0))
            self._set_clocks(0.0)
        elif name == "disk":
            self._fill_disk()
        else:
            self._let_a_group_pass(processes, env)

    def end(self) -> None:
        """Undo what outlasts the processes."""
        if self._is_mounted:
            subprocess.run(["umount", "-l", str(self._data)], check=False)

    def _mount(self) -> bool:
        options = f"size={DISK_BYTES},mode=0700"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "lightbus-chaos", str(self._data)], check=False, capture_output=True
        )
        return done.returncode == 0

    def _set_clocks(self, seconds: float) -> None:
        clock_file(self._directory).write_text(str(seconds))

    def _fill_disk(self) -> None:
        filler = self._data / "filler"
        with filler.open("wb") as file:
            # What is still free is taken up in ever smaller pieces, until not one byte is.
            size, piece = 0, DISK_BYTES
            while piece:
                try:
                    os.posix_fallocate(file.fileno(), size, piece)
                    size += piece
                except OSError:
                    piece //= 2
        time.sleep(FULL)
        filler.unlink()

    def _let_a_group_pass(self, processes: Processes, env: Mapping[str, str]) -> None:
        member = processes.worker("member", cwd=Path(__file__).parent / "programs", env={**env, "CHAOS_GROUP": PASSING})
        with suppress(AssertionError):  # the publishers may have other troubles
            wait_until(lambda: "arrive" in member.output, 5)
        member.kill()
        for listener in ("changed", "seen"):
            removing: Process = processes.lightbus("groups", "remove", f"{PASSING}-{listener}", env=env)
            with suppress(AssertionError, TimeoutError, subprocess.TimeoutExpired):
                removing.wait(60)
