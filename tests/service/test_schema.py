"""The schemas this process knows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from lightbus.exceptions import (
    InvalidEventArguments,
    InvalidParameters,
    InvalidSchema,
    SchemaNotFound,
    ValidationError,
)
from lightbus.service.api import Api, Event, Parameter
from lightbus.service.schema import Schema


class AuthApi(Api):
    registered = Event([Parameter("username", str), Parameter("age", int, default=1)])

    class Meta:
        name = "auth"

    def check(self, username: str, scopes: set[str] | None = None) -> bool:
        return True


class ShopApi(Api):
    class Meta:
        name = "shop.orders"

    def order(self, item: str) -> None: ...


FOREIGN = {
    "rpcs": {"check": {"parameters": {"required": ["user"]}, "response": {"type": "integer"}}},
    "events": {"left": {"parameters": {"type": "object"}}},
}


@pytest.fixture
def schema() -> Schema:
    made = Schema()
    made.add_api(AuthApi())
    return made


def test_known_apis_are_listed(schema: Schema) -> None:
    """Declared and foreign APIs together."""
    schema.add_foreign("other", FOREIGN)
    assert schema.api_names == ["auth", "other"]
    assert schema.rpcs == [("auth", "check"), ("other", "check")]
    assert schema.events == [("auth", "registered"), ("other", "left")]


def test_schemas_are_found_by_name(schema: Schema) -> None:
    """Procedures have parameters and a response, events parameters."""
    rpc = schema.get_rpc_schema("auth", "check")
    assert rpc["response"]["type"] == "boolean"
    assert rpc["parameters"]["required"] == ["username"]
    assert set(schema.get_event_schema("auth", "registered")) == {"parameters"}
    schema.add_foreign("other", FOREIGN)
    assert schema.get_api_schema("other") == FOREIGN


def test_a_declared_api_precedes_a_loaded_schema(schema: Schema) -> None:
    """Until it is removed."""
    schema.add_foreign("auth", FOREIGN)
    assert schema.rpcs == [("auth", "check")]
    assert schema.events == [("auth", "registered")]
    schema.remove_api("auth")
    assert schema.events == [("auth", "left")]
    schema.add_api(AuthApi())
    schema.remove_api(AuthApi())
    assert schema.events == [("auth", "left")]


def test_unknown_names_give_the_known_ones(schema: Schema) -> None:
    """The error has similar names, all names, and the remedy."""
    with pytest.raises(SchemaNotFound, match=r"API named 'aut'\. Did you mean 'auth'\? Known: auth\. Register the Api"):
        schema.get_api_schema("aut")
    with pytest.raises(SchemaNotFound, match=r"'chek'\. Did you mean 'check'\? Known: check\."):
        schema.get_rpc_schema("auth", "chek")
    with pytest.raises(SchemaNotFound, match="Known: registered"):
        schema.get_event_schema("auth", "check")
    with pytest.raises(SchemaNotFound, match="Known: none"):
        Schema().get_api_schema("auth")


def test_arguments_are_validated(schema: Schema) -> None:
    """Declared procedures and events by signature, foreign ones by JSON Schema."""
    schema.add_foreign("other", FOREIGN)
    schema.validate_parameters("auth", "check", {"username": "a", "scopes": {"b"}})
    schema.validate_parameters("auth", "registered", {"username": "a"})
    schema.validate_parameters("other", "left", {"any": 1})
    with pytest.raises(InvalidParameters, match="needs the argument 'username'"):
        schema.validate_parameters("auth", "check", {})
    with pytest.raises(ValidationError, match="user"):
        schema.validate_parameters("other", "check", {})
    with pytest.raises(SchemaNotFound, match="Known: check, registered"):
        schema.validate_parameters("auth", "nothing", {})


@pytest.mark.parametrize("is_foreign", [False, True])
def test_events_are_validated_as_listeners_do(schema: Schema, is_foreign: bool) -> None:
    """Additional arguments of another version are ignored; known ones are checked."""
    if is_foreign:
        told = schema.get_api_schema("auth")
        schema.remove_api("auth")
        schema.add_foreign("auth", told)
    schema.validate_event("auth", "registered", {"username": "a", "more": 1})
    with pytest.raises(ValidationError if is_foreign else InvalidEventArguments, match="username"):
        schema.validate_event("auth", "registered", {"more": 1})
    with pytest.raises(ValidationError, match="age is 'x'"):
        schema.validate_event("auth", "registered", {"username": "a", "age": "x", "more": 1})
    with pytest.raises(SchemaNotFound, match="Known: registered"):
        schema.validate_event("auth", "check", {})


def test_schema_of_an_event_may_be_true() -> None:
    """`true` is a JSON Schema, too."""
    schema = Schema()
    schema.add_foreign("auth", {"events": {"seen": {"parameters": True}}})
    schema.validate_event("auth", "seen", {"any": 1})


def test_the_response_is_validated(schema: Schema) -> None:
    """validate_response checks the response, not the parameters."""
    schema.add_foreign("other", FOREIGN)
    schema.validate_response("auth", "check", True)
    schema.validate_response("other", "check", 1)
    for api_name in ("auth", "other"):
        with pytest.raises(ValidationError):
            schema.validate_response(api_name, "check", "yes")
    with pytest.raises(SchemaNotFound):
        schema.validate_response("auth", "registered", True)


def test_a_directory_gets_a_file_for_each_api(schema: Schema, tmp_path: Path) -> None:
    """Saved schemas are loaded again, equal to the declared ones."""
    schema.add_api(ShopApi())
    schema.save_local(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["auth.json", "shop.orders.json"]
    loaded = Schema()
    loaded.load_local(str(tmp_path))
    assert loaded.api_names == ["auth", "shop.orders"]
    for name in loaded.api_names:
        assert loaded.get_api_schema(name) == schema.get_api_schema(name)
        assert loaded.digest(name) == schema.digest(name)


def test_a_file_gets_all_apis(schema: Schema, tmp_path: Path) -> None:
    """One file holds the APIs by name, indented or not."""
    for human_readable, lines in ((True, 10), (False, 1)):
        schema.human_readable = human_readable
        schema.save_local(tmp_path / "all.json")
        assert len((tmp_path / "all.json").read_text().splitlines()) >= lines
        loaded = Schema()
        loaded.load_local(tmp_path / "all.json")
        assert loaded.get_api_schema("auth") == schema.get_api_schema("auth")


def test_open_files_and_standard_streams(
    schema: Schema, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path, text goes to standard output and comes from standard input."""
    schema.save_local()
    printed = capsys.readouterr().out
    file = io.StringIO()
    schema.save_local(file)
    assert file.getvalue() == printed
    assert list(json.loads(printed)) == ["auth"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(printed))
    for source in (io.StringIO(printed), None):
        loaded = Schema()
        loaded.load_local(source)
        assert loaded.api_names == ["auth"]


def test_broken_file_adds_nothing(tmp_path: Path) -> None:
    """The broken file of a directory is named, and no other file is loaded."""
    (tmp_path / "a.json").write_text(json.dumps(FOREIGN))
    (tmp_path / "b.json").write_text("{")
    loaded = Schema()
    with pytest.raises(InvalidSchema, match=r"b\.json cannot be used"):
        loaded.load_local(tmp_path)
    assert loaded.api_names == []


def test_digest_differs_between_schemas(schema: Schema) -> None:
    """It changes with the schema."""
    schema.add_api(ShopApi())
    schema.add_foreign("other", FOREIGN)
    digests = [schema.digest(name) for name in schema.api_names]
    assert len(set(digests)) == 3
    assert {len(digest) for digest in digests} == {12}


def test_the_digest_is_the_same_in_every_process() -> None:
    """It depends neither on the order of hashes nor on anything else of one process."""
    program = (
        "from lightbus.service.api import Api\n"
        "from lightbus.service.schema import Schema\n"
        "from typing import Literal\n"
        "class A(Api):\n"
        "    class Meta:\n"
        "        name = 'a'\n"
        "    def f(self, b: set[str], a: Literal['x', 'y'], c: dict[str, bytes] = {}) -> frozenset[int]: ...\n"
        "schema = Schema()\n"
        "schema.add_api(A())\n"
        "print(schema.digest('a'))\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_registering_compiles_each_annotation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of an API with many procedures costs one adapter per annotation, and none per procedure."""
    made: list[Any] = []

    def counted(annotation: Any) -> TypeAdapter[Any]:
        made.append(annotation)
        return TypeAdapter(annotation)

    @dataclass
    class User:
        name: str

    def procedure(self: Any, user: User, users: list[User], number: int = 3) -> User:
        return user

    procedure.__annotations__ = {"user": User, "users": list[User], "number": int, "return": User}
    meta = type("Meta", (), {"name": "many"})
    many = type("Many", (Api,), {"Meta": meta, **{f"procedure_{number}": procedure for number in range(50)}})
    schema = Schema()
    monkeypatch.setattr("lightbus.service.describing._described", {})
    monkeypatch.setattr("lightbus.service.casting.TypeAdapter", counted)
    api = many()
    schema.add_api(api)
    assert schema.digest("many")
    assert len(made) == 3  # User, list[User], int
    assert len(api.procedures) == 50

    signature = api.procedures["procedure_7"].signature
    assert signature.cast({"user": {"name": "ann"}, "users": []})["user"] == User("ann")
    signature.cast({"user": {"name": "bob"}, "users": []})
    assert len(made) == 4  # casting uses one for all arguments, created at first use and cached
