"""Collecting schemas from the bus, a module and files."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers.scripted_bus import ScriptedBus, peer
from lightbus import Api, InvalidSchema
from lightbus.cli.schemas.gathering import described_on_bus, save, schemas_of_files, schemas_of_module, schemas_on_bus
from lightbus.core.peers import PeerState
from lightbus.exceptions import LightbusException, LightbusTimeout, UnsupportedUse
from lightbus.wire.api_info import ApiInfo


class AuthApi(Api):
    class Meta:
        name = "auth"

    def documented(self) -> int:
        """Return a number."""
        return 1

    def silent(self) -> int:
        return 1


class SchemasBus(ScriptedBus):
    """Peers that serve APIs, and are asked for the schema and the docstrings of each."""

    def __init__(self, *answers: Any, apis: list[ApiInfo]) -> None:
        super().__init__(*answers)
        self.peers = [replace(each, announcement=replace(each.announcement, apis=(api,), api_names=None, digest=""))
                      for number, api in enumerate(apis) for each in [peer(instance=f"{number:016x}")]]  # fmt: skip

    async def ask_or_empty(self, peer: Any, procedure: str, **question: Any) -> Any:
        return await self.ask(peer, procedure, **question)


def of_module() -> dict[str, Any]:
    bus = lightbus.create(service_name="auth")
    bus.client.register_api(AuthApi())
    bus.schema.add_foreign("shop", {"rpcs": {}, "events": {}})
    return schemas_of_module(bus)


def test_of_a_module_and_back(tmp_path: Path) -> None:
    """Docstrings become descriptions of parameters; the digest does not include them."""
    found = of_module()
    assert {*found} == {"auth", "shop"}
    rpcs = found["auth"]["rpcs"]
    assert rpcs["documented"]["parameters"]["description"] == "Return a number."
    assert "description" not in rpcs["silent"]["parameters"]
    file = tmp_path / "all.json"
    save(found, file, human_readable=False)
    assert schemas_of_files(file) == json.loads(file.read_text()) == found


@pytest.mark.parametrize("text", ["[]", '{"auth": 3}', "no"])
def test_files_that_hold_none(tmp_path: Path, text: str) -> None:
    """Are named, with what writes them."""
    (tmp_path / "all.json").write_text(text)
    with pytest.raises(UnsupportedUse, match=r"all\.json cannot be used: .*dumpschema`"):
        schemas_of_files(tmp_path / "all.json")
    with pytest.raises(UnsupportedUse, match=r"There is no .*gone"):
        schemas_of_files(tmp_path / "gone")


PROCEDURE = {"parameters": {"type": "object"}, "response": {}}


def test_of_a_bus() -> None:
    """The latest of several versions, with a note, and no internal API."""
    schema, described = {"rpcs": {"f": PROCEDURE}}, {"procedures": [{"name": "f", "doc": "Do it."}, 3]}
    apis = [ApiInfo(name="auth", version=version, digest=str(version)) for version in (1, 2)]
    bus: Any = SchemasBus(schema, described, apis=[*apis, ApiInfo(name="internal.x", internal=True)])
    found = asyncio.run(schemas_on_bus(bus))
    assert [*found] == ["auth"]
    assert found["auth"]["rpcs"]["f"]["parameters"] == {"type": "object", "description": "Do it."}
    assert bus.questions == [{"api": "auth"}] * 2
    (note,) = bus.notes
    assert note.startswith("The peers of auth do not all serve the same: that of ")


def test_a_peer_with_an_invalid_schema() -> None:
    """It is an error, and nothing of it is written."""
    bus: Any = SchemasBus({"rpcs": {"f": 3}}, apis=[ApiInfo(name="auth")])
    with pytest.raises(InvalidSchema, match="'f' does not have exactly the keys"):
        asyncio.run(schemas_on_bus(bus))


def test_a_peer_with_an_invalid_schema_can_be_left_out() -> None:
    """With the error, for who has a use for the other APIs."""
    apis = [ApiInfo(name="auth"), ApiInfo(name="shop")]
    bus: Any = SchemasBus({"rpcs": {"f": 3}}, {"rpcs": {"f": PROCEDURE}}, {}, apis=apis)
    failed: list[tuple[str, LightbusException]] = []
    found = asyncio.run(described_on_bus(bus, on_failure=lambda api, error: failed.append((api, error))))
    assert [*found] == ["shop"]
    assert [(api, type(error)) for api, error in failed] == [("auth", InvalidSchema)]


def test_a_silent_peer_is_asked_once() -> None:
    """However many APIs it serves; another peer that serves the same form is asked instead."""
    apis = [ApiInfo(name=name, digest=name) for name in ("a", "b", "c", "d")]
    bus: Any = SchemasBus(apis=[*apis[:1], *apis[-1:]])
    hung, well = bus.peers
    bus.peers = [
        replace(hung, announcement=replace(hung.announcement, apis=tuple(apis), api_names=None, digest="")),
        well,
    ]
    asked: list[tuple[str, str]] = []

    async def ask(peer: Any, procedure: str, *, api: str) -> Any:
        asked.append((peer.instance, api))
        if peer.instance == hung.instance:
            raise LightbusTimeout("It does not answer.")
        return {"rpcs": {"f": PROCEDURE}} if procedure == "schema" else {}

    bus.ask = ask
    failed: dict[str, LightbusException] = {}
    found = asyncio.run(described_on_bus(bus, on_failure=failed.__setitem__))
    assert asked == [(hung.instance, "a"), (well.instance, "d"), (well.instance, "d")]
    assert ([*found], [*failed]) == (["d"], ["a", "b", "c"])
    assert {str(error) for error in failed.values()} == {"It does not answer."}


@pytest.mark.parametrize("is_one_service", [True, False])
def test_silent_peers_do_not_add_up(is_one_service: bool) -> None:
    """Those that do not answer are waited for together, be they of one API or of several."""
    names = ["a"] * 7 if is_one_service else [*"abcdefg"]
    bus: Any = SchemasBus(apis=[ApiInfo(name=name, digest="x") for name in names])
    waiting: list[int] = []

    async def ask(peer: Any, procedure: str, *, api: str) -> Any:
        waiting.append(1)
        asked = len(waiting)
        await asyncio.sleep(0)  # whoever is asked at the same time is counted by now
        rounds.add(len(waiting))
        raise LightbusTimeout(f"{asked} does not answer.")

    rounds: set[int] = set()
    bus.ask = ask
    failed: dict[str, LightbusException] = {}
    assert asyncio.run(described_on_bus(bus, on_failure=failed.__setitem__)) == {}
    assert rounds == ({1, 3, 7} if is_one_service else {7})
    assert [*failed] == sorted({*names})
    assert str(failed["a"]) == "1 does not answer."


def test_what_only_silent_peers_serve_is_named() -> None:
    """A document without it does not look as if it were complete."""
    bus: Any = SchemasBus({"rpcs": {"f": PROCEDURE}}, {}, apis=[ApiInfo(name="auth"), ApiInfo(name="shop")])
    bus.peers[1] = replace(bus.peers[1], state=PeerState.QUARANTINED)
    assert [*asyncio.run(described_on_bus(bus))] == ["auth"]
    assert bus.notes == ["shop is left out: auth 0000… on host h does not answer."]
