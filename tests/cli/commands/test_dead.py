"""`lightbus dead`, as a process, against real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import wait_until

if TYPE_CHECKING:
    from ..conftest import Commands


@pytest.mark.long
def test_dead_letters_are_shown_given_again_and_dropped(commands: Commands) -> None:
    """What a group failed on can be looked at, given to it alone again, and dropped."""
    _, shop = commands.services()
    commands.serve("mail").wait_for_line("Events of auth .* arrive")
    commands.run("fire", "auth.user_registered", "username=sally")
    wait_until(lambda: commands.json("dead", "list"), 10)
    [dead] = commands.json("dead", "list", "mail-fails")
    assert (dead["group"], dead["kwargs"], dead["error"]) == (
        "mail-fails", {"username": "sally", "age": 0}, "ValueError: no sally here",
    )  # fmt: skip
    assert commands.json("dead", "list", "shop-greeter") == []
    text = commands.text("dead", "show", dead["native_id"])
    assert "for mail-fails, after 1 deliveries: ValueError: no sally here" in text
    assert "is given again to mail-fails" in commands.text("dead", "retry", dead["native_id"])
    [again] = wait_until(lambda: commands.json("dead", "list"), 10)
    assert (again["id"], again["native_id"] != dead["native_id"]) == (dead["id"], True)
    assert shop.stdout.count("welcome sally") == 1  # given to its group alone
    assert commands.json("dead", "drop", "all") == [
        {"group": "mail-fails", "native_id": again["native_id"], "done": True}
    ]
    assert "There are no dead letters" in commands.run("dead", "list").stderr
    assert "No event x-1 is a dead letter" in commands.run("dead", "show", "x-1", code=3).stderr
