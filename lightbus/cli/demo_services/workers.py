"""The demo's workers: started, observed, and ended with the demo, even if it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

import click

__all__ = ["SERVICES", "Observation", "Workers"]

SERVICES = Path(__file__).parent
"""The directory of the services: each has a directory with a bus.py."""

STOP_SECONDS = 4.0
"""Seconds for the workers to finish, say goodbye and end, before they are killed."""

Observation: TypeAlias = dict[str, Any]
"""An observation of a worker (`observer`): `service`, `what`, `at` (seconds since 1970), and its facts."""


class Workers:
    """
    One worker per service, on a separate bus. A context manager that ends all of them.

    Their standard input is a pipe that only this process holds open, and they end when it closes (`observer`): so they
    end even if this process is killed.

    Args:
        services: names of directories below `SERVICES`.
        bus_name: the name of their bus.

    """

    def __init__(self, services: Sequence[str], bus_name: str) -> None:
        self.observations: queue.SimpleQueue[Observation] = queue.SimpleQueue()
        self._bus_name = bus_name
        self._services = services
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._written: dict[str, list[str]] = {service: [] for service in services}
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        try:
            for service in self._services:
                self._start(service)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def pids(self) -> dict[str, int]:
        """Return the process ids by service."""
        return {service: process.pid for service, process in self._processes.items()}

    def check(self) -> None:
        """Raise an error if a worker has ended."""
        for service, process in self._processes.items():
            if process.poll() is not None:
                raise self.failure(f"The worker '{service}' ended with exit code {process.returncode}.")

    def failure(self, problem: str) -> click.ClickException:
        """Return the error for a problem, with all output of the workers."""
        wrote = "\n".join(f"--- the worker '{service}' wrote:\n{self._output(service)}" for service in self._processes)
        return click.ClickException(f"{problem}\n{wrote}")

    def next(self, seconds: float) -> Observation | None:
        """Return the next observation; None if there is none within so many seconds. Raises what `check` raises."""
        with contextlib.suppress(queue.Empty):
            return self.observations.get(timeout=seconds)
        self.check()
        return None

    def until(self, *wanted: Callable[[Observation], bool], what: str, seconds: float) -> list[Observation]:
        """
        Return the observations until each condition in `wanted` was true for one of them, in order of time.

        Raises ClickException after so many seconds; its message says that `what` was not seen.
        """
        seen: list[Observation] = []
        missing = list(wanted)
        end = time.monotonic() + seconds
        while missing:
            observation = self.next(0.1)
            if observation is not None:
                seen.append(observation)
                missing = [condition for condition in missing if not condition(observation)]
            elif time.monotonic() > end:
                raise self.failure(f"Within {seconds:g} s this was not seen: {what}.")
        return sorted(seen, key=lambda each: each["at"])

    def _start(self, service: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "lightbus", "run", "--service-name", service],
            cwd=SERVICES / service,
            env=_environment(self._bus_name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal reaches only the demo, which then ends the workers
        )
        self._processes[service] = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._read(self._take_observations, service, process.stdout)
        self._read(self._take_output, service, process.stderr)

    def _read(self, take: Callable[[str, IO[str]], None], service: str, stream: IO[str]) -> None:
        reader = threading.Thread(target=take, args=(service, stream), name=f"demo-{service}", daemon=True)
        reader.start()
        self._readers.append(reader)

    def _take_observations(self, service: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                try:
                    self.observations.put({"service": service, **json.loads(line)})
                except (ValueError, TypeError):  # not an observation: other output of the process
                    self._written[service].append(line)

    def _take_output(self, service: str, stream: IO[str]) -> None:
        with stream:
            self._written[service].extend(stream)

    def _output(self, service: str) -> str:
        if self._processes[service].poll() is not None:
            for reader in self._readers:
                if reader.name == f"demo-{service}":
                    reader.join(1.0)
        return "".join(self._written[service]).rstrip() or "nothing"

    def _stop(self) -> None:
        processes = list(self._processes.values())
        for process in processes:
            process.terminate()
        end = time.monotonic() + STOP_SECONDS
        try:
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
        for reader in self._readers:
            reader.join(1.0)


def _environment(bus_name: str) -> dict[str, str]:
    """Return the environment without the user's settings of Lightbus: the demo must be isolated."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBUS_")}
    return {**kept, "LIGHTBUS_BUS": bus_name, "LIGHTBUS_SECURITY": "host"}
