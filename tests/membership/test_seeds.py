"""Fixed peers whose names are looked up."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from lightbus.adapters.dns.lookup import DnsAnswer
from lightbus.core.registry import retry_delay
from lightbus.membership import seeds as module
from lightbus.membership.running_clock import LONGEST_STEP
from lightbus.membership.seeds import (
    HANGS_AFTER,
    LOOKUP_PATIENCE,
    LOOKUP_PAUSE,
    MOST_ADDRESSES,
    REFRESH,
    WARN_AFTER,
    Seeds,
)

NAME = "tcp://auth.example:5570"
ONE, TWO = "tcp://10.0.0.1:5570", "tcp://10.0.0.2:5570"
LOST = "Name or service not known"


class Place:
    """Fixed peers, a clock, and the started lookups; the test decides their results."""

    def __init__(self) -> None:
        self.now = 100.0
        self.begun: list[tuple[str, Callable[[DnsAnswer], None]]] = []
        self.room = True
        self.ended = 0
        self.seeds = self.make(NAME)

    def make(self, *endpoints: str) -> Seeds:
        """Return fixed peers in this place."""
        self.seeds = Seeds(endpoints, self.note_end, lambda: self.now)
        return self.seeds

    def resolve(self, endpoint: str, on_done: Callable[[DnsAnswer], None]) -> bool:
        if self.room:
            self.begun.append((endpoint, on_done))
        return self.room

    def note_end(self) -> None:
        self.ended += 1

    def due(self, *, after: float = 0.0) -> list[str]:
        """Advance the clock, and return the endpoints to dial."""
        self.now += after
        return [address.endpoint for address in self.seeds.due(self.now)]

    def run(self, seconds: float) -> None:
        """Advance the clock while this process runs."""
        until = self.now + seconds
        while self.now < until:
            self.due(after=LONGEST_STEP)

    def find(self, *endpoints: str, problem: str = "") -> None:
        """End the latest lookup."""
        self.begun[-1][1](DnsAnswer(endpoints=endpoints, problem=problem))

    def fail(self, endpoint: str) -> None:
        """Let an attempt fail."""
        self.seeds.failed([endpoint], self.now, "does not answer", denied=False, keys=1)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place with a fixed peer that is given by its name."""
    made = Place()
    monkeypatch.setattr(module, "resolve", made.resolve)
    return made


def test_each_address_of_a_name_is_tried(place: Place) -> None:
    """A name has one lookup at a time, and waiting callers are notified; then each of its addresses is a fixed peer."""
    assert (place.due(), place.due()) == ([], [])
    assert [endpoint for endpoint, _ in place.begun] == [NAME]
    place.find(ONE, TWO)
    assert place.ended == 1
    assert place.due() == [ONE, TWO]
    place.seeds.linked(ONE, "a", ourselves=True)
    assert place.due() == [TWO]  # that one of them is ourselves says nothing of the others
    place.seeds.linked(TWO, "b", ourselves=False)
    assert place.due() == []
    assert place.seeds.describe() == "1 of 1 fixed peers answer"
    [fixed] = place.seeds.report()
    assert (fixed.endpoint, fixed.addresses, fixed.answering) == (NAME, (ONE, TWO), (ONE, TWO))
    assert (fixed.lookups, fixed.failed_lookups, fixed.problem) == (1, 0, "")


def test_an_address_is_not_looked_up(place: Place) -> None:
    """It is dialed at once."""
    place.make(ONE)
    assert (place.due(), place.begun) == ([ONE], [])


def test_a_fixed_peer_whose_connection_never_lasts(place: Place) -> None:
    """It is tried after growing pauses; one whose connection has lasted is tried soon, whatever came before."""
    place.make(ONE)
    pauses = []
    for _ in range(4):
        place.seeds.linked(ONE, "a", ourselves=False)
        place.seeds.unlinked("a", place.now)
        before = place.now
        while not place.due(after=0.05):
            pass
        pauses.append(place.now - before)
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0], abs=0.06)
    for _ in range(2):
        place.seeds.linked(ONE, "a", ourselves=False)
        place.now += 5.0  # until the next answer to HELLO
    place.seeds.linked(ONE, "a", ourselves=False)
    place.seeds.unlinked("a", place.now)
    assert (place.due(after=0.1), place.due(after=0.2)) == ([], [ONE])


def test_a_name_is_looked_up_regularly(place: Place) -> None:
    """New addresses are dialed, missing ones no more, and the others keep their state."""
    place.due()
    place.find(ONE)
    place.seeds.linked(ONE, "a", ourselves=False)
    place.due(after=REFRESH * 0.9)
    assert len(place.begun) == 1
    place.due(after=REFRESH * 0.2)
    place.find(ONE, TWO)
    assert place.due() == [TWO]
    place.due(after=REFRESH * 1.1)
    place.find(TWO)
    assert place.due() == [TWO]
    assert place.seeds.report()[0].lookups == 3


@pytest.mark.parametrize("how", ["fails", "ends"])
def test_a_name_is_looked_up_when_an_address_fails(place: Place, how: str) -> None:
    """The host may have another address by now: soon, and not more often than once a second."""
    place.due()
    place.find(ONE)
    if how == "fails":
        place.fail(ONE)
    else:
        place.seeds.linked(ONE, "a", ourselves=False)
        place.seeds.unlinked("a", place.now)
    place.due(after=LOOKUP_PAUSE * 0.5)
    assert len(place.begun) == 1
    place.due(after=LOOKUP_PAUSE * 0.6)
    assert len(place.begun) == 2
    place.find(TWO)
    assert place.due() == [TWO]


def test_a_name_that_is_not_found(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is looked up again at growing intervals, with one warning; its former addresses stay in use."""
    caplog.set_level(logging.DEBUG, "lightbus.dialing")
    place.due()
    place.find(ONE)
    place.due(after=REFRESH * 1.1)
    caplog.clear()
    for failures in range(1, WARN_AFTER + 2):
        assert len(place.begun) == failures + 1
        place.find(problem=LOST)
        place.due(after=retry_delay(failures) * 0.9)
        assert len(place.begun) == failures + 1
        assert place.due(after=retry_delay(failures) * 0.2) == [ONE]
    assert [record.levelname for record in caplog.records] == [*["DEBUG"] * (WARN_AFTER - 1), "WARNING", "DEBUG"]
    assert caplog.records[0].getMessage() == (
        f"The name of the fixed peer {NAME} could not be resolved (1 times in a row): {LOST}; it will be tried again"
    )
    assert place.seeds.describe() == f"0 of 1 fixed peers answer, {NAME} cannot be resolved ({LOST})"
    [fixed] = place.seeds.report()
    assert (fixed.lookups, fixed.failed_lookups, fixed.problem) == (WARN_AFTER + 2, WARN_AFTER + 1, LOST)
    place.find(TWO)
    assert place.seeds.report()[0].problem == ""


def test_a_name_server_that_hangs(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Others are dialed in the meantime; the wait is limited, no lookup starts twice, and there is one warning."""
    place.make(NAME, ONE)
    assert place.due() == [ONE]
    place.seeds.linked(ONE, "a", ourselves=False)
    place.run(LOOKUP_PATIENCE * 0.8)
    assert (place.seeds.has_untried(), place.seeds.are_resolving()) == (True, True)
    place.run(LOOKUP_PATIENCE * 0.2)
    assert (place.seeds.has_untried(), place.seeds.are_resolving()) == (False, False)
    assert place.seeds.report()[0].problem == "the name server has not answered for 2 s"
    for _ in range(2):
        place.due(after=HANGS_AFTER)
    assert len(place.begun) == 1
    [record] = caplog.records
    assert "nothing else waits for it" in record.getMessage()
    place.find(TWO)
    assert place.due() == [TWO]


def test_time_in_which_the_process_does_not_run(place: Place) -> None:
    """A lookup could not have ended in that time: the name is still waited for."""
    place.due()
    place.due(after=LOOKUP_PATIENCE * 2)
    assert place.seeds.has_untried()


def test_no_room_for_a_lookup(place: Place) -> None:
    """It starts once there is room, and is waited for no longer than one that hangs."""
    place.room = False
    place.due()
    place.run(LOOKUP_PATIENCE)
    assert not place.seeds.has_untried()
    place.room = True
    place.due()
    assert len(place.begun) == 1


def test_a_name_with_many_addresses(place: Place) -> None:
    """A limited number is dialed at a time; in the end all of them are."""
    many = [f"tcp://10.0.0.{number}:5570" for number in range(MOST_ADDRESSES * 2)]
    seen: set[str] = set()
    for _ in range(200):
        place.due(after=REFRESH * 1.1)
        place.find(*many)
        assert len(place.due()) == MOST_ADDRESSES
        seen |= set(place.due())
    assert seen == set(many)


def test_an_address_is_named_with_its_name(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Messages say which setting an address came from."""
    place.due()
    place.find(ONE)
    place.seeds.failed([ONE], place.now, "breaks off", denied=True, keys=1)
    assert place.seeds.refusals() == [f"the fixed peer {NAME} at {ONE} breaks off"]


def test_no_lookup_starts_after_close(place: Place) -> None:
    """No lookup is started any more, and one that ends changes nothing."""
    place.due()
    place.seeds.close()
    place.find(ONE)
    assert (place.due(after=REFRESH), place.ended, len(place.begun)) == ([], 0, 1)
