"""The members of groups are stored; a journal that fails delays nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import B, C, Talk, run
from helpers.publishing import Publishes
from lightbus.exceptions import JournalError
from lightbus.wire.envelope import (
    Leave,
)


@pytest.mark.parametrize("how", ["leaves", "is gone"])
def test_a_full_disk_while_a_member_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Its partitions go to the other member at once; the assignment is stored as soon as there is room."""

    async def test(publisher: Publishes) -> None:
        one, two = Talk(publisher, b"one"), Talk(publisher, b"two")
        await one.join(B)
        journal = publisher.journals.own()
        change = journal.change

        def full(*_: Any) -> None:
            raise JournalError("the disk is full")

        journal.change = full  # type: ignore[method-assign]
        await two.join(C)
        if how == "leaves":
            publisher.handle(b"one", 9, Leave("auth", "shop"))
        else:
            publisher.coordinator.subscribed(b"\xfe" + B.encode(), False)
        await wait_until_async(lambda: two.heard and getattr(two.heard[-1], "partitions", None) == list(range(16)))
        assert (
            caplog.text.count("The members of groups could not be stored; the write is repeated: the disk is full") == 1
        )
        journal.change = change  # type: ignore[method-assign]
        publisher.coordinator.tick(time.monotonic())
        assert set(journal.cursors.held("auth", "shop")) == set(range(16))

    run(tmp_path, test)
