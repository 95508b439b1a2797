"""What a worker announces of its APIs, and of APIs whose events it stores for other services."""

from __future__ import annotations

import pytest

from lightbus.engine.advertising import api_infos
from lightbus.service.api import Api, ApiRegistry, Event
from lightbus.service.schema import Schema


class AuthApi(Api):
    seen = Event(["username"], delivery="best_effort")
    registered = Event(["username"])

    class Meta:
        name = "auth"
        version = 2

    def check(self, username: str) -> bool:
        return True


@pytest.fixture
def registry() -> ApiRegistry:
    """Return the Apis of a worker."""
    made = ApiRegistry()
    made.add(AuthApi())
    return made


def schema_of(registry: ApiRegistry) -> Schema:
    """Return their schemas."""
    schema = Schema()
    for api in registry.all():
        schema.add_api(api)
    return schema


@pytest.mark.parametrize("serves_calls", [True, False])
def test_the_announcement_of_an_api(registry: ApiRegistry, serves_calls: bool) -> None:
    """Its names in order, its version and its schema's digest; no procedure if no calls are served."""
    schema = schema_of(registry)
    [auth] = api_infos(registry, schema, serves_calls=serves_calls, kept={})
    assert (auth.name, auth.procedures) == ("auth", ("check",) if serves_calls else ())
    assert (auth.events, auth.best_effort, auth.version) == (("registered", "seen"), ("seen",), 2)
    assert (auth.digest, auth.internal, auth.keeps) == (schema.digest("auth"), False, False)


def test_apis_stored_for_other_services_are_announced(registry: ApiRegistry) -> None:
    """An API whose events are stored here for another service is advertised as such, unless it is ours now."""
    kept = {"news": ("printed",), "auth": ("registered",)}
    news, auth = api_infos(registry, schema_of(registry), serves_calls=True, kept=kept)
    assert (news.name, news.events, news.procedures, news.keeps) == ("news", ("printed",), (), True)
    assert (auth.name, auth.keeps) == ("auth", False)
