"""The creation time of a group, by the clocks of different hosts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helpers.group_talk import Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.events.groups.group_records import MAX_AGE
from lightbus.events.groups.group_state import MARGIN, times_of
from lightbus.wire import fields
from lightbus.wire.fields import FIRST_MOMENT, LAST_MOMENT


def test_creation_time_of_another_clock_is_corrected(tmp_path: Path) -> None:
    """A creation time by another host's clock is corrected in favour of the group; a future one becomes now."""

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


@pytest.mark.parametrize(("created", "clock"), [(FIRST_MOMENT, LAST_MOMENT), (LAST_MOMENT, FIRST_MOMENT)])
def test_a_member_with_an_invalid_time(tmp_path: Path, created: float, clock: float) -> None:
    """Other members only get valid times, or no member of the group would be assigned any partition."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join(group="g", host="other", created_at=created, clock=clock)
        info = publisher.coordinator.groups["auth", "g"].info
        assert machine_time() - info.created_at <= MAX_AGE + 1.0
        told = [*times_of(info), *times_of(info._replace(created_at=-1e300))]
        assert all(map(fields.moment, told))

    run(tmp_path, test)
