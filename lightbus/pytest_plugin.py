"""Fixtures for pytest, which finds them by itself where Lightbus is installed: docs/testing.md.

Nothing of Lightbus is imported before a test asks for a fixture.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .path import BusPath
    from .testing import BusMock, MemoryBus

__all__ = ["lightbus_bus", "lightbus_hub", "lightbus_mock", "lightbus_module", "lightbus_worker"]

RETRY_PAUSE = 0.01
"""Seconds before a failed event is retried in a test; otherwise it is at least a second."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that names the bus module."""
    parser.addini("lightbus_module", "The bus module: its name, or the path of its file from the root.", default="")


@pytest.fixture
def lightbus_module(request: pytest.FixtureRequest) -> str:
    """
    Return the bus module to test: a name, or the path of a file.

    By default the setting `lightbus_module`, else the environment variable LIGHTBUS_MODULE, else `bus`. Override the
    fixture where there are several modules: in a test module, or in the conftest.py of a directory.
    """
    return str(request.config.getini("lightbus_module")) or os.environ.get("LIGHTBUS_MODULE") or "bus"


@pytest.fixture
def lightbus_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBus]:
    """Return a bus in memory; everything on it is closed at the test's end. Failed events are retried within 0.1 s."""
    from .events.listening import delivery
    from .testing import memory_bus

    monkeypatch.setattr(delivery, "FIRST_PAUSE", RETRY_PAUSE)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 10 * RETRY_PAUSE)
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def lightbus_bus(lightbus_hub: MemoryBus, lightbus_module: str, pytestconfig: pytest.Config) -> BusPath:
    """Return the bus of the bus module, on the bus in memory. Its worker does not run."""
    return lightbus_hub.attach(_bus_of(lightbus_module, pytestconfig.rootpath))


@pytest.fixture
def lightbus_worker(lightbus_hub: MemoryBus, lightbus_bus: BusPath) -> BusPath:
    """Return the same bus with its worker running, in a thread."""
    lightbus_hub.start(lightbus_bus)
    return lightbus_bus


@pytest.fixture
def lightbus_mock(lightbus_module: str, pytestconfig: pytest.Config) -> Iterator[BusMock]:
    """Return a mock that replaces the network for the bus of the bus module."""
    from .testing import bus_mocker

    with bus_mocker(_bus_of(lightbus_module, pytestconfig.rootpath)) as mock:
        yield mock


def _bus_of(module: str, root: Path) -> BusPath:
    from .creation import get_bus
    from .exceptions import FailedToImportBusModule

    try:
        return get_bus(_loaded(root / module) if module.endswith(".py") else module)
    except FailedToImportBusModule as error:
        error.add_note(
            f"The tests are about the bus module {module!r}. Another one is named by `lightbus_module` in pytest's "
            "settings, or by a fixture of that name in conftest.py: a module, or the path of a file from "
            f"{root}, as 'services/auth/bus.py'."
        )
        raise


def _loaded(file: Path) -> Any:
    """Return the module of a file, imported once under a name of its own: several may be called `bus`."""
    file = file.resolve()
    name = f"lightbus_module_{abs(hash(str(file))):x}"
    if name not in sys.modules:
        found = importlib.util.spec_from_file_location(name, file)
        if found is None or found.loader is None or not file.exists():
            raise pytest.UsageError(f"lightbus_module: there is no file {file}")
        module = sys.modules[name] = importlib.util.module_from_spec(found)
        sys.path.insert(0, str(file.parent))  # as for `lightbus run` there: the module may import its neighbours
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.path.remove(str(file.parent))
    return sys.modules[name]
