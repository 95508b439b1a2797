"""The public names of the package."""

from __future__ import annotations

import importlib.util
import json

import pytest

import lightbus
from helpers import Processes


@pytest.mark.parametrize("name", lightbus.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each is imported when it is first used, and is the same from then on."""
    value = getattr(lightbus, name)
    assert value is getattr(lightbus, name)
    assert name in dir(lightbus)


def test_submodules_need_no_import() -> None:
    """Submodules that were always available after `import lightbus` still are."""
    assert lightbus.exceptions.UnknownApi is lightbus.UnknownApi


def test_name_that_is_not_public_is_an_attribute_error() -> None:
    """A name that is not public is an AttributeError, as for every module."""
    with pytest.raises(AttributeError, match="has no attribute 'creat'"):
        _ = getattr(lightbus, "creat")  # noqa: B009 - a type checker sees that it is not there


@pytest.mark.new_interpreters
def test_import_is_cheap(processes: Processes) -> None:
    """Nothing heavy is imported before a name is used."""
    code = "import json, sys, lightbus; print(json.dumps(sorted(sys.modules)))"
    process = processes.python("-c", code)
    assert process.wait() == 0
    assert not {"pydantic", "zmq", "msgpack", "asyncio", "yaml"} & {*json.loads(process.stdout)}


CALLS_NOBODY = """
import json, sys
before = {*sys.modules}  # what measures this program may have imported some of it
import lightbus
bus = lightbus.create({"discovery": {"backend": "none", "wait": 0}})
try:
    bus.nobody.answers()
except lightbus.UnknownApi:
    print(json.dumps(sorted({*sys.modules} - before)))
"""


@pytest.mark.new_interpreters
def test_client_imports_nothing_of_a_worker(processes: Processes) -> None:
    """What serves, publishes and listens is a third of the package: who only calls pays nothing for it."""
    process = processes.python("-c", CALLS_NOBODY)
    assert process.wait() == 0, process.stderr
    modules = {*json.loads(process.stdout)}
    assert "lightbus.engine.node" in modules, "the client has begun to look for peers"
    of_a_worker = {
        "engine.worker",
        "engine.threads",
        "rpc.server",
        "events.publishing.publisher",
        "events.listening.consumer",
    }
    files = {"adapters.sqlite.journal", "adapters.memory.events", "adapters.zmq.gate"}
    not_needed = {f"lightbus.{name}" for name in of_a_worker | files}
    assert all(map(importlib.util.find_spec, not_needed)), "one of these has another name now"
    assert not not_needed & modules
    libraries = {"pydantic_core", "pydantic", "jsonschema_rs", "yaml", "rich", "click", "schedule", "cryptography"}
    of_python = {"importlib.metadata", "email", "sysconfig", "zipfile", "http", "xml", "sqlite3"}
    assert not (libraries | of_python) & modules
