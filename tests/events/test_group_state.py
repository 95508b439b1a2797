"""Since when a group exists, by whichever clock somebody says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helpers.group_talk import Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.events.group_state import MARGIN


def test_clocks(tmp_path: Path) -> None:
    """A group's creation by another host's clock is put right, in favour of the group; a future one is now."""

    async def test(publisher: Publishes) -> None:
        now = time.time()
        talk = Talk(publisher)
        await talk.join(group="near", created_at=now - 100, clock=now)
        await talk.join(group="far", host="other", created_at=now + 200, clock=now + 300)
        await talk.join(group="future", created_at=now + 500, clock=now)
        groups = {name: group.info.created_at for (_, name), group in publisher.coordinator.groups.items()}
        assert groups["near"] == pytest.approx(machine_time() - 100, abs=0.5)
        assert groups["far"] == pytest.approx(machine_time() - 100, abs=0.5)
        far = publisher.coordinator.groups["auth", "far"]
        assert far.owed_since == far.info.created_at - MARGIN
        assert groups["future"] == pytest.approx(machine_time(), abs=0.5)

    run(tmp_path, test)
