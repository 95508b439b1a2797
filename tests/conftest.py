"""
Fixtures of all tests. Each test has surroundings of its own, and leaves nothing running and nothing open.

The pieces are in tests/helpers; here they are only put together.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import random
import secrets
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers import DOORS, SCALE, Door, Processes, examples, own
from helpers.bytecode import keep_bytecode
from helpers.forking import ForkServer, can_fork
from helpers.hubs import hub
from helpers.leaks import RESIDENT, Snapshot, TaskComplaints, recorded_loops
from helpers.order import in_order_of_files, rotated, side_by_side
from helpers.patience import patient_calls
from helpers.surroundings import Roots, Surroundings, logging_not_set_up, own_surroundings

__all__ = ["hub"]

# A shell that runs us in the background has us, and all that we start, ignore SIGINT: then no Ctrl-C could be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "lightbus"

TESTS_PER_PROCESSOR = 3

UNMEASURED = {"bench", "browser", "chaos", "examples", "fuzz", "network"}
"""Directories whose tests are about what many parts do together, and long: coverage, which takes as much time again,
is measured by the tests of the parts."""

MEASURED = """
[run]
branch = true
parallel = true
include = {package}/*
patch =
    subprocess
    _exit
disable_warnings = no-data-collected
"""
"""Settings of coverage for programs that tests start: those of pyproject.toml, but for what takes each of them long."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let those who bring an implementation of a port name it (`docs/ports.md`)."""
    what = "package.module:name of a factory, or what an event backend has for settings"
    parser.addoption(own.OPTION, help=f"examine this in tests/ports, instead of what is built in: {what}")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test an installed copy that is not what the checkout holds: its result would mislead."""
    if config.pluginmanager.hasplugin("cacheprovider"):
        with suppress(OSError):  # a checkout that may not be written to
            keep_bytecode(config.cache.mkdir("bytecode"))
    mine = getattr(config, "workerinput", None)
    left_out = config.getoption("ignore") or config.getoption("ignore_glob")  # what is named is collected all the same
    if mine is not None and not left_out and [Path(each).resolve() for each in config.args] == [TESTS]:
        config.args = rotated(TESTS, int(mine["workerid"].removeprefix("gw")), mine["workercount"])
    _set_up_hypothesis()
    tested = _tested_package()
    if tested != SOURCE and _sources(tested) != _sources(SOURCE):
        raise pytest.UsageError(
            f"the lightbus installed in {tested.parent} is not the one of this checkout: "
            "install it again (pip install '.[dev]'), or for good (pip install -e '.[dev]')"
        )


def _set_up_hypothesis() -> None:
    # Imported here, where bytecode is kept: pytest compiles all of it with its own assertions, which takes seconds.
    from hypothesis import HealthCheck, settings

    # Without a deadline, and whatever it takes to make an example: a busy machine is not a finding. 20 examples in a
    # plain run, 1000 in the soak.
    settings.register_profile(
        "lightbus",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=examples(1000),
        print_blob=True,
    )
    settings.load_profile("lightbus")


def pytest_report_header() -> str:
    """Say which lightbus is tested, and how much of it."""
    return f"lightbus: {_tested_package()}, {SCALE:g} of the full counts (LIGHTBUS_TEST_SCALE)"


def _tested_package() -> Path:
    spec = importlib.util.find_spec("lightbus")
    if spec is None or not spec.submodule_search_locations:
        raise pytest.UsageError("lightbus is not installed: pip install -e '.[dev]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _sources(package: Path) -> dict[Path, bytes]:
    return {path.relative_to(package): path.read_bytes() for path in package.rglob("*.py")}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Let `-n auto` run more tests at a time than there are processors: each waits, most of the time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # xdist's own way to say how many
        return None
    return TESTS_PER_PROCESSOR * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while ten thousand tests are collected, and never again among what that has made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers of xdist wait and compute at the same time; alone, tests run in the order of their files."""
    if (mine := getattr(config, "workerinput", None)) is not None:
        items[:] = side_by_side(in_order_of_files(items), mine["workercount"])


@pytest.fixture(scope="session")
def _roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roots]:
    """Make what all tests have in common. One fixture, and one more for each test: each takes its time, 8,000 times."""
    directory = tmp_path_factory.getbasetemp()  # made now: each test moves the place of temporary files
    # asyncio's debug mode is not to say how slow the machine is: tests read the logs.
    logging.getLogger("asyncio").addFilter(lambda record: not str(record.msg).startswith("Executing %s took"))
    _measure_ourselves_alone(directory)
    with recorded_loops(), closing(Roots()) as roots:
        yield roots


def _measure_ourselves_alone(directory: Path) -> None:
    """
    Have coverage, where it is on, measure us and what we start anew, but no copy of us that a test makes by `os.fork`.

    Such a copy would save at its end all that we have measured so far, once more; that takes seconds. And what we start
    does not look for files that it has not run: we name them.
    """
    if (measuring := _measuring()) is not None:
        tests = os.getpid()
        save = measuring.save
        measuring.save = lambda: save() if os.getpid() == tests else None
        settings = directory / "measured.ini"
        settings.write_text(MEASURED.format(package=_tested_package()))
        os.environ["COVERAGE_PROCESS_START"] = str(settings)
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def _measuring() -> Any:
    """Return what measures us; None where nothing does."""
    return sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None


@contextmanager
def _measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Disable coverage, if it is on, in some of the tests, and in the programs that these start."""
    measuring = _measuring()
    if measuring is None or not _is_left_unmeasured(request):
        yield
        return
    measuring.stop()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            patch.delenv(name)
        yield
    measuring.start()


def _is_left_unmeasured(request: pytest.FixtureRequest) -> bool:
    directory = request.path.relative_to(TESTS).parts[0]
    return directory in UNMEASURED or request.node.get_closest_marker("unmeasured") is not None


@pytest.fixture(autouse=True)
def surroundings(request: pytest.FixtureRequest, _roots: Roots) -> Iterator[Surroundings]:
    """Give the test a bus name, directories and an environment of its own; fail it for what it leaves."""
    asyncio_log, complaints = logging.getLogger("asyncio"), TaskComplaints()
    with _measured(request), logging_not_set_up(), own_surroundings(_roots) as made:
        before = Snapshot(made.bus)
        asyncio_log.addHandler(complaints)
        yield made
        left = before.leaked() + made.left_files()
        before.kill_processes()
        asyncio_log.removeHandler(complaints)
    left += complaints.found
    assert not left, "the test left behind:\n  " + "\n  ".join(left)


@pytest.fixture(autouse=True)
def defaults(surroundings: Surroundings) -> Iterator[None]:
    """Have calls wait for as long as everything else does, where the test does not say for how long."""
    with patient_calls():
        yield


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    """Run the test twice: through the sync door and through the async one."""
    return DOORS[request.param]


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer | None]:
    """Return an interpreter that has imported the package, and forks; if the system supports it."""
    if not can_fork():
        yield None
        return
    with closing(ForkServer()) as server:
        RESIDENT.add(server.pid)
        yield server


@pytest.fixture
def processes(
    request: pytest.FixtureRequest, surroundings: Surroundings, tmp_path: Path, fork_server: ForkServer | None
) -> Iterator[Processes]:
    """Return a starter of programs that end with the test; their output is shown on a failure."""
    logs = tmp_path / "logs"
    logs.mkdir()
    anew = request.node.get_closest_marker("new_interpreters")
    started = Processes(logs, None if anew else fork_server)
    yield started
    started.end()
    print(started.report())  # pytest shows it when the test failed
    assert not started.faults()


@pytest.fixture
def chaos() -> random.Random:
    """Return randomness whose seed a failure shows; `LIGHTBUS_TEST_SEED` repeats it."""
    seed = int(os.environ.get("LIGHTBUS_TEST_SEED") or secrets.randbits(32))
    print(f"chaos seed: LIGHTBUS_TEST_SEED={seed}")
    return random.Random(seed)
