"""`lightbus history`, as a process, against real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Commands


def test_latest_kept_events_are_shown_oldest_first(commands: Commands) -> None:
    """The latest stored events, oldest first, over all journals; filtered by name, arguments, sender and time."""
    one = commands.serve("auth", "--process-name", "first", where="one")
    commands.serve("auth", "--process-name", "second", where="other").wait_for_line("Ready")
    one.wait_for_line("Ready")
    assert "No stored event matches." in commands.run("history").stderr
    for age in range(6):
        commands.run("fire", "auth.user_registered", "username=sally", f"age={age}")

    def ages(*args: str) -> list[int]:
        return [each["kwargs"]["age"] for each in commands.json("history", *args)]

    assert ages() == ages("-n", "0") == [0, 1, 2, 3, 4, 5]
    assert ages("auth.*", "-n", "2") == [4, 5]
    assert ages("--where", "age >= 2", "--where", "age<4") == [2, 3]
    assert sorted(ages("--from", "first") + ages("--from", "second")) == [0, 1, 2, 3, 4, 5]
    assert (ages("shop.*"), ages("--until", "1h"), ages("--since", "1h", "-n", "1")) == ([], [], [5])
    last = commands.text("history").splitlines()[-1]
    assert 'auth.user_registered  {"username": "sally", "age": 5}  auth ' in last
    assert "or how long ago: 10m, 2h, 3d." in " ".join(commands.run("history", "--since", "x", code=2).stderr.split())
