"""Options, events, and the rules for names."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import InvalidApiEventConfiguration, InvalidName, MisconfiguredApiOptions
from lightbus.service.declared import ApiMeta, Event, check_api_name, check_name
from lightbus.service.parameters import Parameter, WildcardParameter


@pytest.mark.parametrize("name", ["auth", "shop.orders", "my-shop.v2", "_x", "A1", "defaults", "shop.default"])
def test_valid_api_names(name: str) -> None:
    """Letters, digits, '_' and '-' with dots between parts."""
    assert ApiMeta(name=name).name == name


@pytest.mark.parametrize(
    "name", ["", "1st", "a b", "a..b", ".a", "a.", "a\x00b", "a\n", "größe", "-a", "*", "a/b", None, 5]
)
def test_invalid_api_names(name: Any) -> None:
    """Other characters are refused, with what to use instead."""
    with pytest.raises(InvalidName, match=r"cannot be the name of an Api\. Use letters"):
        check_api_name(name)


@pytest.mark.parametrize("name", ["default", "default.auth"])
def test_default_is_reserved(name: str) -> None:
    """`default` is the name of settings for all Apis."""
    with pytest.raises(InvalidName, match="reserved"):
        ApiMeta(name=name)


@given(st.text() | st.from_regex(r"[a-z_.\x00*\n]{1,6}", fullmatch=True))
def test_valid_names_cannot_break_a_topic(name: str) -> None:
    """NUL separates the parts of a topic: no valid name contains it or another special character."""
    for check in (check_api_name, lambda each: check_name(each, of="X")):
        try:
            check(name)
        except InvalidName:
            continue
        assert set(name) <= {*string.ascii_letters, *string.digits, *"-._"}


@pytest.mark.parametrize("version", ["1", 1.5, True, None])
def test_a_version_is_an_integer(version: Any) -> None:
    """Versions are compared, so they are integers."""
    with pytest.raises(MisconfiguredApiOptions, match="Make it an integer"):
        ApiMeta(name="auth", version=version)
    if version is not None:
        with pytest.raises(InvalidApiEventConfiguration, match="Make it an integer"):
            Event(version=version)


def test_parameters_are_names_or_parameters() -> None:
    """Plain names and Parameters mix; the signature describes both."""
    event = Event(["username", Parameter("age", int, default=1), WildcardParameter()])
    assert event.parameters == (Parameter("username"), Parameter("age", int, default=1), WildcardParameter())
    assert event.signature.describe() == "event(username, age: int = 1, **kwargs)"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("username", r"wants a list of parameters\. Write Event\(\['username'\]\)"),
        (Parameter("a"), "wants a list"),
        (5, "wants a list"),
        ({"age": int}, r"wants a list, .*Write Event\(\[Parameter\('age', int\)\]\)"),
        ({"b", "a"}, r"wants a list, .*Write Event\(\['a', 'b'\]\)"),
        ([5], "5 is not a parameter"),
        (["a", Parameter("a")], "two parameters of one name"),
        ([WildcardParameter("a"), WildcardParameter("b")], "two parameters"),
    ],
)
def test_invalid_parameters_are_refused(parameters: Any, message: str) -> None:
    """The error says how to write the list."""
    with pytest.raises(InvalidApiEventConfiguration, match=message):
        Event(parameters)


def test_the_key_is_one_of_the_parameters() -> None:
    """Another key would put every event into one partition."""
    assert Event(["username"], key="username").key == "username"
    with pytest.raises(
        InvalidApiEventConfiguration, match=r"key='user'.*Did you mean 'username'\? There are: username"
    ):
        Event(["username"], key="user")
    with pytest.raises(InvalidApiEventConfiguration, match="There are: none"):
        Event([WildcardParameter()], key="kwargs")


def test_delivery_is_one_of_two() -> None:
    """A misspelt delivery mode is refused."""
    assert Event(delivery="best_effort").delivery == "best_effort"
    with pytest.raises(InvalidApiEventConfiguration, match="at_least_once, best_effort"):
        Event(delivery="exactly_once")  # type: ignore[arg-type]


def test_event_gets_its_name_from_the_class() -> None:
    """The name is that of the class attribute, the Api's is from its Meta."""

    class Auth:
        registered = Event(["username"])

        class Meta:
            name = "auth"

    assert (Auth.registered.api_name, Auth.registered.name) == ("auth", "registered")
    assert repr(Auth.registered) == "<Event auth.registered(username)>"


def test_a_bound_event_takes_the_version_of_its_api() -> None:
    """The Api's version counts unless the event has its own; the declaration is unchanged."""
    declared = Event(["a"], key="a", delivery="best_effort")
    bound = declared.bound(ApiMeta(name="auth", version=4), "registered")
    assert (bound.api_name, bound.name, bound.version, bound.key, bound.delivery) == (
        "auth",
        "registered",
        4,
        "a",
        "best_effort",
    )
    assert (declared.api_name, declared.version) == ("", 1)
    assert Event(version=2).bound(ApiMeta(name="auth", version=4), "x").version == 2
