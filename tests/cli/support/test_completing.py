"""What the shell completes of the names on the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest

from helpers.asgi import MemoryConnection
from helpers.clients import AuthApi
from lightbus.cli.support import completing
from lightbus.cli.support.completing import (
    answer_for,
    complete_apis,
    complete_groups,
    complete_names,
    complete_peers,
    complete_peers_and_apis,
)
from lightbus.exceptions import NotReachable
from lightbus.testing import memory_bus

if TYPE_CHECKING:
    from lightbus.cli.support.connection import Connection

    from ..conftest import Commands


def test_names_on_the_bus(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Procedures, events, APIs and peers are completed for the matching arguments; an empty bus is no error."""
    monkeypatch.setattr("lightbus.cli.support.completing.COMPLETION_TIMEOUT", 20.0)
    commands.services()
    expected = {
        ("call", "auth."): {"auth.check_password", "auth.echo", "auth.fail"},
        ("fire", ""): {"auth.user_registered"},
        ("describe", "shop"): {"shop.orders", "shop.orders.place"},
        ("ping", "a"): {"auth"},
        ("lag", "shop-"): {"shop-greeter"},
    }
    for (command, begun), names in expected.items():
        assert completed(command, begun) >= names
    assert "shop.orders.place" not in completed("call", "auth.")
    assert completed("call", "", "auth.check_password", "username=ada") == {"password="}
    assert completed("fire", "age=", "auth.user_registered") == {"age=0"}
    assert completed("call", "", "auth.user_registered") == completed("call", "", "nothing") == set()


def test_what_begins_so_is_offered_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matching names on the bus, sorted; internal APIs are left out."""
    command = click.Context(click.Command("x"))
    with memory_bus() as hub:
        monkeypatch.setattr(completing, "Connection", lambda options: MemoryConnection(hub))
        for service in ("shop", "auth"):
            bus = hub.create(service_name=service)
            bus.client.register_api(AuthApi())
            if service == "shop":
                bus.auth.user_registered.listen(lambda message: None, listener_name="greet")
            hub.start(bus)

        def offered(complete: completing.Completion, incomplete: str) -> list[str]:
            return [each.value for each in complete(command, Any, incomplete)]  # type: ignore[arg-type]

        assert offered(complete_apis, "") == ["auth"]
        assert offered(complete_names, "auth.") == ["auth.check_password", "auth.fail", "auth.user_registered"]
        assert offered(complete_groups, "") == ["shop-greet"]
        assert offered(complete_groups, "x") == []
        assert {"auth", "shop"} <= {*offered(complete_peers, "")}
        looks: list[Any] = []
        look = completing._look
        monkeypatch.setattr(completing, "_look", lambda context: looks.append(context) or look(context))
        assert {"auth", "shop"} <= {*offered(complete_peers_and_apis, "")}
        assert len(looks) == 1


def test_no_answer_is_no_error() -> None:
    """Without peers, or with wrong settings, there are no completions: the command itself reports it."""

    async def fails(bus: Connection) -> list[str]:
        raise NotReachable("nobody")

    assert answer_for(click.Context(click.Command("x")), fails, ["nothing"]) == ["nothing"]
    wrong = click.Context(click.Command("x"))
    wrong.params["context"] = "there is no such context"
    assert answer_for(wrong, fails, ["nothing"]) == ["nothing"]


def completed(command: str, begun: str, *before: str) -> set[str]:
    """Return the completions of `lightbus COMMAND BEFORE BEGUN`."""
    from click.shell_completion import ShellComplete

    from lightbus.cli import _group

    class Shell(ShellComplete):
        name = "test"
        source_template = ""

    return {item.value for item in Shell(_group, {}, "lightbus", "_X").get_completions([command, *before], begun)}
