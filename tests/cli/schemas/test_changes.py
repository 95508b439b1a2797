"""The differences between two versions of an API, and what each of them breaks."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from lightbus import Api, Event, Parameter, WildcardParameter
from lightbus.cli.schemas.changes import SchemaChange, breaking, changes
from lightbus.service.schema import Schema


def schema_of(**members: Any) -> dict[str, Any]:
    """Return the schema of an API with these procedures and events."""
    meta = type("Meta", (), {"name": "auth"})
    schema = Schema()
    schema.add_api(type("AuthApi", (Api,), {**members, "Meta": meta})())
    return {"auth": schema.get_api_schema("auth")}


def one(self: Any, user: str, age: int = 0) -> int | None: ...
def needs_more(self: Any, user: str, mail: str, age: int = 0) -> int | None: ...
def takes_more(self: Any, user: str, age: int = 0, mail: str = "") -> int | None: ...
def takes_less(self: Any, user: str) -> int | None: ...
def takes_all(self: Any, user: str, **rest: int) -> int | None: ...
def is_wider(self: Any, user: str | None, age: int = 0) -> int: ...
def is_narrower(self: Any, user: str, age: bool = False) -> int | str | None: ...
def needs_age(self: Any, user: str, age: int) -> int | None: ...
def other_default(self: Any, user: str, age: int = 18) -> int | None: ...


OF_PROCEDURES = [
    (needs_more, [("the parameter 'mail' is new, and needed", ("callers",))]),
    (takes_more, [("the parameter 'mail' is new, and optional", ())]),
    (takes_less, [("the parameter 'age' is gone", ("callers",))]),
    (takes_all, [("the parameter 'age' is gone", ()), ("further arguments are accepted", ())]),
    (is_wider, [("the parameter 'user' is str | None, was str", ()), ("the result is int, was int | None", ())]),
    (
        is_narrower,
        [
            ("the parameter 'age' is bool, was int", ("callers",)),
            ("the result is int | str | None, was int | None", ("callers",)),
        ],
    ),
    (needs_age, [("the parameter 'age' is needed now", ("callers",))]),
    (other_default, [("the default of 'age' is 18, was 0", ())]),
    (one, []),
]


@pytest.mark.parametrize(("new", "expected"), OF_PROCEDURES, ids=lambda each: getattr(each, "__name__", ""))
def test_of_a_procedure(new: Any, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    """Changes of parameters break callers that send them, changes of the result callers that get it."""
    found = changes(schema_of(check=one), schema_of(check=new))
    assert [(each.change, each.breaks) for each in found] == expected
    assert breaking(found) == sum(bool(breaks) for _, breaks in expected)


OLD = Event([Parameter("user", str), Parameter("age", int, default=0)])
BOTH = ("publishers", "listeners")
OF_EVENTS = [
    (Event([Parameter("user", str), Parameter("age", int, default=0), "mail"]), ["publishers"]),
    (Event([Parameter("user", str)]), [*BOTH]),
    (Event([Parameter("user", str), Parameter("age", int | None, default=0)]), ["listeners"]),
    (Event([Parameter("user", str), Parameter("age", Literal[0, 1], default=0)]), ["publishers"]),
    (Event([Parameter("user", str), Parameter("age", str, default="")]), [*BOTH]),
    (Event([Parameter("user", str), WildcardParameter()]), ["listeners"]),
    (Event([Parameter("user", str), Parameter("age", int, default=0)], key="user"), []),
]


@pytest.mark.parametrize(("new", "expected"), OF_EVENTS)
def test_of_an_event(new: Any, expected: list[str]) -> None:
    """Changes of parameters break publishers that send them, and listeners that get them."""
    found = changes(schema_of(seen=OLD), schema_of(seen=new))
    assert [name for each in found for name in each.breaks] == expected


def test_added_and_removed_parts() -> None:
    """New APIs and members break nothing; removed ones do."""
    old, new = schema_of(check=one, seen=OLD), schema_of(other=one)
    assert [str(each) for each in changes(old, new)] == [
        "auth.check: the procedure is gone (breaks callers)",
        "auth.other: the procedure is new (compatible)",
        "auth.seen: the event is gone (breaks publishers and listeners)",
    ]
    assert changes({}, new) == [SchemaChange(api="auth", member=None, kind="api", change="the API is new")]
    assert changes(old, {})[0].breaks == ("callers", "publishers", "listeners")
    assert changes(new, {})[0].breaks == ("callers",)
