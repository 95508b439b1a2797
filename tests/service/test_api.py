"""Api classes and the registry."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any, Generic, TypeVar

import pytest

from lightbus.exceptions import (
    EventNotFound,
    InvalidApiEventConfiguration,
    InvalidApiRegistryEntry,
    InvalidName,
    MisconfiguredApiOptions,
    UnknownApi,
    UnknownProcedure,
)
from lightbus.service.api import Api, ApiRegistry, Event, Parameter
from lightbus.service.schema import Schema

T = TypeVar("T")


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class AuthApi(Api):
    user_registered = Event(["username", Parameter("email", str)], key="username")
    _draft = Event()
    realm = "example"

    class Meta:
        name = "auth"
        version = 3

    def __init__(self) -> None:  # without super().__init__()
        self.users = {"admin": "secret"}

    def check_password(self, username: str, password: str) -> bool:
        return self.users.get(username) == password

    async def create_user(self, username: str) -> str:
        return username

    @staticmethod
    def double(number: int) -> int:
        return 2 * number

    @classmethod
    def named(cls, suffix: str) -> str:
        return cls.__name__ + suffix

    @logged
    def wrapped(self, a: int) -> int:
        return a

    @property
    def size(self) -> int:
        return len(self.users)

    def _hidden(self) -> None: ...

    def __call__(self) -> None: ...


def api_named(name: str, **meta: Any) -> Api:
    made: Api = type("Made", (Api,), {"Meta": type("Meta", (), {"name": name, **meta})})()
    return made


def test_public_methods_are_procedures_and_nothing_else() -> None:
    """Private names, properties, plain attributes and members of Api itself cannot be called."""
    assert list(AuthApi().procedures) == ["check_password", "create_user", "double", "named", "wrapped"]
    assert list(AuthApi().events) == ["user_registered"]


def test_procedures_are_bound_and_described() -> None:
    """Each procedure carries the bound method, whether it is async, and its signature."""
    procedures = AuthApi().procedures
    assert procedures["check_password"].function(username="admin", password="secret") is True
    assert str(procedures["check_password"]) == "auth.check_password(username: str, password: str) -> bool"
    assert procedures["double"].function(number=2) == 4
    assert procedures["named"].function(suffix="!") == "AuthApi!"
    assert procedures["wrapped"].signature.describe() == "wrapped(a: int) -> int"
    assert [name for name, each in procedures.items() if each.is_async] == ["create_user"]
    assert asyncio.run(procedures["create_user"].function(username="a")) == "a"


def test_events_have_name_api_version_and_key() -> None:
    """An event of an instance has name, Api, version and key."""
    event = AuthApi().get_event("user_registered")
    assert (event.api_name, event.name, event.version, event.key) == ("auth", "user_registered", 3, "username")
    assert repr(event) == "<Event auth.user_registered(username, email: str)>"


def test_an_instance_is_read_once() -> None:
    """Serving a call does not reflect again: the same immutable values are returned each time."""
    api = AuthApi()
    assert api.procedures is api.procedures
    assert api.get_procedure("double") is api.get_procedure("double")
    with pytest.raises(TypeError):
        api.procedures["x"] = api.procedures["double"]  # type: ignore[index]
    assert repr(api) == "<Api auth: 5 procedures, 1 events>"


class SlottedApi(AuthApi):
    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.extra = 5


@pytest.mark.parametrize("api", [AuthApi, SlottedApi])
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda api: pickle.loads(pickle.dumps(api))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_are_apis_of_their_own(api: type[AuthApi], copied: Callable[[Any], Any]) -> None:
    """Their procedures are theirs, and a method of one can be sent to another process."""
    first = api()
    second = copied(first)
    second.users = {"sally": "secret"}
    for each, known in ((first, False), (second, True)):
        check = each.procedures["check_password"].function
        assert check(username="sally", password="secret") is known
        assert each.procedures["check_password"].function.__self__ is each
    assert copied(second.check_password)(username="sally", password="secret") is True


def test_inherited_and_mixed_in_methods_are_procedures() -> None:
    """A user's base class needs no Meta, and a subclass hides a method by setting it to None."""

    class Base(Api):
        changed = Event()

        def ping(self) -> str:
            return "base"

        def secret(self) -> None: ...

    class Mixin:
        def count(self) -> int:
            return 1

    class First(Base, Mixin):
        secret = None  # type: ignore[assignment]

        class Meta:
            name = "first"

        def ping(self) -> str:
            return "first"

    class Second(Base):
        class Meta:
            name = "second"

    assert sorted(First().procedures) == ["count", "ping"]
    assert First().procedures["ping"].function() == "first"
    assert (First().events["changed"].api_name, Second().events["changed"].api_name) == ("first", "second")


def test_annotations_may_name_a_class_inside_the_api() -> None:
    """A class nested in the Api is found by its bare name."""

    class Shop(Api):
        class Meta:
            name = "shop"

        class Item:
            pass

        def add(self, item: Item) -> None: ...

    assert Shop().procedures["add"].signature.parameters[0].annotation is Shop.Item


def test_annotations_of_a_base_class_mean_what_they_do_there() -> None:
    """Its nested classes are found, and its type variables stand for what the class says."""

    class Base(Api, Generic[T]):
        class Item:
            pass

        added = Event([Parameter("item", T), Parameter("among", list[T], default=None)])

        def find(self, near: list[T]) -> T: ...

        def item(self) -> Item: ...

    class Dates(Base[date]):
        class Meta:
            name = "dates"

    api = Dates()
    assert api.procedures["find"].signature.describe() == "find(near: list[date]) -> date"
    assert api.procedures["item"].signature.returns is Base.Item
    assert api.events["added"].signature.describe() == "added(item: date, among: list[date] | None = None)"
    assert api.procedures["find"].signature.cast_result("2026-01-31") == date(2026, 1, 31)


def test_unknown_names_give_similar_ones() -> None:
    """The error lists the existing names."""
    with pytest.raises(
        UnknownProcedure, match=r"'auth' has no procedure 'chek_password'\. Did you mean 'check_password'"
    ):
        AuthApi().get_procedure("chek_password")
    with pytest.raises(EventNotFound, match=r"no event 'user_registred'\. Did you mean .* It has: user_registered\."):
        AuthApi().get_event("user_registred")
    with pytest.raises(EventNotFound, match="It has: none"):
        api_named("empty").get_event("any")


def test_the_class_of_events_is_no_event() -> None:
    """Omitting the brackets is an error: nothing would be declared."""

    class OrderApi(Api):
        placed = Event

        class Meta:
            name = "orders"

    with pytest.raises(InvalidApiEventConfiguration, match=r"OrderApi\.placed is the class Event .* placed = Event\("):
        OrderApi()


def test_a_missing_meta_is_refused_with_what_to_write() -> None:
    """The remedy is in the message; without any Meta, the first instance raises it."""

    class OrderApi(Api):
        pass

    with pytest.raises(MisconfiguredApiOptions, match='Add to it: `class Meta: name = "order"`'):
        OrderApi()
    with pytest.raises(MisconfiguredApiOptions, match=r"Meta has an unknown option 'nmae'\. Did you mean 'name'\?"):

        class MisspeltApi(Api):
            class Meta:
                nmae = "order"

    with pytest.raises(MisconfiguredApiOptions, match="has no name"):

        class Nameless(Api):
            class Meta:
                internal = True


def test_an_unknown_option_is_refused() -> None:
    """A misspelt option is not ignored silently."""
    with pytest.raises(MisconfiguredApiOptions, match=r"'intenal'\. Did you mean 'internal'\?"):
        api_named("x", intenal=True)


@pytest.mark.parametrize("name", ["meta", "procedures", "events", "get_event", "get_procedure"])
def test_names_of_api_itself_are_refused(name: str) -> None:
    """A member that would hide one of Api is refused where it is written: in a class, a mixin or `__init__`."""

    def initialise(self: Any) -> None:
        setattr(self, name, [])

    meta = type("Meta", (), {"name": "x"})
    for member in (lambda self: None, []):
        with pytest.raises(InvalidName, match=f"Made.{name} hides"):
            type("Made", (Api,), {"Meta": meta, name: member})
    with pytest.raises(InvalidName, match=f"Mixin.{name} hides"):
        type("Made", (Api, type("Mixin", (), {name: lambda self: None})), {"Meta": meta})()
    made = type("Made", (Api,), {"Meta": meta, "__init__": initialise})
    with pytest.raises(InvalidName, match=rf"Made: self\.{name} = \.\.\. would hide .* self\._{name} = \.\.\."):
        made()


def test_an_event_of_an_instance_is_refused() -> None:
    """An Api's events are read from its class: an Event created in `__init__` would be ignored."""

    def initialise(self: Any) -> None:
        self.order_placed = Event(["id"])

    made = type("Made", (Api,), {"Meta": type("Meta", (), {"name": "x"}), "__init__": initialise})
    with pytest.raises(InvalidApiEventConfiguration, match=r"self\.order_placed = Event\(\.\.\.\) declares nothing"):
        made()


@pytest.mark.parametrize("member", [Event(), lambda self: None], ids=["event", "procedure"])
@pytest.mark.parametrize("name", ["*", "größe", "a\x00b", "a.b", "a\n"])
def test_names_that_would_break_topics_are_refused(name: str, member: Any) -> None:
    """Events and procedures have plain names."""
    made = type("Made", (Api,), {"Meta": type("Meta", (), {"name": "x"}), name: member})
    with pytest.raises(InvalidName, match="cannot be the name of a procedure or an event"):
        made()


def test_a_name_is_an_event_or_a_procedure() -> None:
    """A subclass cannot turn an event into a procedure, or the other way round."""

    class Base(Api):
        changed = Event()

        def ping(self) -> None: ...

    for members in ({"changed": lambda self: None}, {"ping": Event()}):
        made = type("Made", (Base,), {"Meta": type("Meta", (), {"name": "x"}), **members})
        with pytest.raises(InvalidName, match="an event in one class and a method in another"):
            made()


def test_the_registry_returns_added_apis() -> None:
    """Apis are found by name, in the order they were added, public and internal ones apart."""
    registry = ApiRegistry()
    auth, state = AuthApi(), api_named("internal.state", internal=True)
    registry.add(auth)
    registry.add(state)
    assert registry.get("auth") is auth
    assert (registry.all(), registry.public(), registry.internal()) == ([auth, state], [auth], [state])
    assert registry.names() == ["auth", "internal.state"]
    registry.remove("auth")
    assert registry.names() == ["internal.state"]


def test_threads_register_at_the_same_time() -> None:
    """None of what they register is lost, neither in the registry nor in the schema."""
    registry, schema = ApiRegistry(), Schema()
    apis = [type(f"Api{n}", (Api,), {"Meta": type("Meta", (), {"name": f"api{n}"})})() for n in range(400)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            for register in (registry.add, schema.add_api, lambda api: schema.add_foreign(api.meta.name, {})):
                [*threads.map(register, apis)]
    finally:
        sys.setswitchinterval(before)
    assert len(registry.by_name) == len(schema.api_names) == len(schema._foreign) == len(apis)


def test_unknown_api_gives_similar_names() -> None:
    """The error lists the registered ones."""
    registry = ApiRegistry()
    with pytest.raises(UnknownApi, match="Registered: none"):
        registry.remove("auth")
    registry.add(AuthApi())
    with pytest.raises(
        UnknownApi, match=r"'aut' is registered in this process\. Did you mean 'auth'\? Registered: auth\."
    ):
        registry.get("aut")


def test_other_objects_cannot_be_registered() -> None:
    """A class is refused with the line to write, and so are other objects."""
    registry = ApiRegistry()
    with pytest.raises(
        InvalidApiRegistryEntry, match=r"Register an instance: bus\.client\.register_api\(AuthApi\(\)\)"
    ):
        registry.add(AuthApi)  # type: ignore[arg-type]
    with pytest.raises(InvalidApiRegistryEntry, match="An instance of 'int' is no Api"):
        registry.add(5)  # type: ignore[arg-type]


def test_second_api_of_a_name_replaces_the_first(caplog: pytest.LogCaptureFixture) -> None:
    """As in 1.x; if it is of another class a warning is logged, since both may be wanted."""
    registry = ApiRegistry()
    for api in (AuthApi(), again := AuthApi()):
        registry.add(api)
    assert registry.all() == [again]
    assert caplog.messages == []
    registry.add(api_named("auth"))
    assert "'auth' is an instance of 'Made' from now on, and no longer of 'AuthApi'" in caplog.text
    assert registry.names() == ["auth"]


def test_further_options_stay_on_meta() -> None:
    """Further attributes of a class Meta belong to the program; names similar to our options are refused."""
    meta = api_named("x", owner="team", tags=["a"]).meta
    assert (meta.owner, meta.tags, meta.others["owner"]) == ("team", ["a"], "team")
    with pytest.raises(AttributeError, match="The class Meta of the Api 'x' has no 'missing'"):
        _ = meta.missing
    assert len({meta, api_named("x", owner="others").meta}) == 1
    assert copy.copy(meta).owner == "team"
    made = type("Made", (Api,), {})
    made.Meta = {"name": "x"}  # type: ignore[attr-defined]
    with pytest.raises(MisconfiguredApiOptions, match=r"Made\.Meta is \{'name': 'x'\}\. Write it as `class Meta:`"):
        made()


def test_wrong_name_gives_similar_names_of_the_other_kind() -> None:
    """A misspelt name in the form that calls both gives similar events, or similar procedures."""

    class Orders(Api):
        order_placed = Event()

        class Meta:
            name = "orders"

        def place(self) -> None: ...

    with pytest.raises(UnknownProcedure, match=r"It has: place\. It has an event .* Did you mean 'order_placed'\?"):
        Orders().get_procedure("order_plcaed")
    with pytest.raises(EventNotFound, match=r"It has a procedure of a similar name\. Did you mean 'place'\?"):
        Orders().get_event("plcae")
    with pytest.raises(EventNotFound, match=r"'place' is a procedure: call it"):
        Orders().get_event("place")


def test_signatures_of_internal_apis_are_read_once() -> None:
    """Each client has an instance of them; a procedure has its own function, and shares the signature of its class."""

    class CountsApi(Api):
        class Meta:
            name = "internal.counts"
            internal = True

        def count(self, of: list[str]) -> int:
            return len(of)

    class WiderApi(CountsApi):
        class Meta:
            name = "internal.counts"
            internal = True

        def count(self, of: list[str], more: int = 0) -> int:  # type: ignore[override]
            return len(of) + more

    first, second = (CountsApi().get_procedure("count") for _ in range(2))
    assert first.signature is second.signature
    assert first.function.__self__ is not second.function.__self__  # type: ignore[attr-defined]
    assert first.signature.describe() == "count(of: list[str]) -> int"
    assert WiderApi().get_procedure("count").signature.describe() == "count(of: list[str], more: int = 0) -> int"
    public = [AuthApi().get_procedure("check_password").signature for _ in range(2)]
    assert public[0] is not public[1]
