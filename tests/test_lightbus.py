"""The public names of the package."""

from __future__ import annotations

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


def test_rooms_need_no_import_of_their_own() -> None:
    """What a plain `import lightbus` always gave can be reached through it."""
    assert lightbus.exceptions.UnknownApi is lightbus.UnknownApi


def test_unknown_name() -> None:
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
