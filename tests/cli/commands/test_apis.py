"""`lightbus apis`, as a process, against real workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Commands


def test_apis_are_listed_with_members_and_servers(commands: Commands) -> None:
    """Both forms show each API with its members and who serves it."""
    commands.services()
    auth, shop = commands.json("apis")
    assert (auth["api"], auth["versions"], auth["mixed"]) == ("auth", [1], False)
    assert auth["procedures"] == ["check_password", "echo", "fail"]
    assert auth["events"] == ["user_registered"]
    assert [peer["service"] for peer in shop["peers"]] == ["shop"]
    text = commands.text("apis")
    assert re.search(r"^auth +1 +check_password, echo, fail +user_registered +auth$", text, re.MULTILINE)
    assert re.search(r"^shop.orders +1 +place +- +shop$", text, re.MULTILINE)
