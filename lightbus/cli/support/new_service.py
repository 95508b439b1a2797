"""The files of a new service, which `lightbus new` writes."""

from __future__ import annotations

import re

__all__ = ["service_files"]

_BUS = '''\
"""The service {name}: what it offers to others, and what it listens to. `lightbus run` serves it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import lightbus

logger = logging.getLogger(__name__)
bus = lightbus.create(service_name="{name}")


@dataclass
class Greeting:
    """What a call returns: a dataclass travels by its fields."""

    name: str
    text: str


class {title}Api(lightbus.Api):
    """Greets people. Write here what your service does."""

    greeted = lightbus.Event([lightbus.Parameter("name", str), lightbus.Parameter("times", int, default=1)])

    class Meta:
        name = "{api}"

    def greet(self, name: str) -> Greeting:
        """Return a greeting, and tell whoever listens."""
        bus.{api}.greeted.fire(name=name)
        return Greeting(name=name, text=f"Hello {{name}}")


def on_greeted(event_message: lightbus.EventMessage, name: str, times: int) -> None:
    """Handle the event. It may be given twice: write what does no harm then."""
    logger.info("%s was greeted, %d times", name, times)


bus.client.register_api({title}Api())
bus.{api}.greeted.listen(on_greeted, listener_name="log")
'''

_TESTS = '''\
"""Tests of the service, on a bus in memory: no process, no network."""

from __future__ import annotations

import pytest
from bus import Greeting

import lightbus
from lightbus.testing import MemoryBus


def test_greet(lightbus_worker: lightbus.BusPath) -> None:
    """A call returns what the procedure says."""
    assert lightbus_worker.{api}.greet(name="Ada") == Greeting(name="Ada", text="Hello Ada")


def test_who_listens_is_told(lightbus_worker: lightbus.BusPath, lightbus_hub: MemoryBus) -> None:
    """A call fires the event, and every listener has handled it soon after."""
    lightbus_worker.{api}.greet(name="Ada")
    assert lightbus_hub.wait_for_event("{api}.greeted").kwargs == {{"name": "Ada", "times": 1}}
    lightbus_hub.wait_until_handled()


def test_arguments_are_checked(lightbus_worker: lightbus.BusPath) -> None:
    """What does not fit the annotations never reaches the procedure."""
    with pytest.raises(lightbus.ValidationError):
        lightbus_worker.{api}.greet(name=3)
'''

_PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["lightbus"]

[project.optional-dependencies]
dev = ["mypy", "pytest"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]

[tool.mypy]
strict = true
files = ["bus.py", "tests"]
"""

_README = """\
# {name}

A service on a [Lightbus](https://pypi.org/project/lightbus/).

| file | holds |
|---|---|
| `bus.py` | the API `{api}`, and the listener of its event |
| `tests/test_bus.py` | tests, which need no network |
| `pyproject.toml` | what it needs, and how pytest and mypy are called |

```sh
lightbus run                                   # serve it
lightbus call {api}.greet name=Ada             # in a second terminal
lightbus tail                                  # events as they happen
lightbus describe {api}
pytest
mypy
```
"""

_IGNORED = "__pycache__/\n.venv/\n.mypy_cache/\n.pytest_cache/\n"


def service_files(name: str) -> dict[str, str]:
    """Return the files of a service by their paths in its directory."""
    api = name.replace("-", "_")
    title = "".join(word.capitalize() for word in re.split("[-_]", name))
    texts = {"bus.py": _BUS, "tests/test_bus.py": _TESTS, "pyproject.toml": _PROJECT, "README.md": _README}
    return {
        **{file: text.format(name=name, api=api, title=title) for file, text in texts.items()},
        ".gitignore": _IGNORED,
    }
