"""`lightbus lag`, as a process, against real workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from helpers import wait_until

if TYPE_CHECKING:
    from ..conftest import Commands


def test_lag_of_groups(commands: Commands) -> None:
    """The lag of each group is shown; a lag without a member gives exit code 1."""
    _, shop = commands.services()
    commands.run("fire", "auth.user_registered", "username=sally")
    shop.wait_for_line("^welcome sally")
    wait_until(lambda: [(each["group"], each["lag"]) for each in commands.look("lag")] == [("shop-greeter", 0)], 10)
    shop.ask_to_end()
    shop.wait()
    commands.run("fire", "auth.user_registered", "username=ada")
    [behind] = commands.json("lag", "shop-greeter", code=1)
    assert (behind["lag"], behind["members"]) == (1, 0)
    assert re.search(r"^auth +shop-greeter +auth .* 0 +1$", commands.run("lag", code=1).stdout, re.MULTILINE)
    error = commands.run("lag", "nobody", code=3).stderr
    assert "No publisher knows the group 'nobody'. There are: shop-greeter." in error
