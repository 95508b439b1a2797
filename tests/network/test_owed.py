"""The events that groups get: many groups, different clocks, journals that are new, full, or far ahead."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import Process, Processes, scaled, wait_until
from lightbus import BusPath

from .conftest import Network

PROGRAMS = Path(__file__).parent / "programs"
DAYS = 3 * 86_400.0


@pytest.fixture
def bus(network: Network) -> BusPath:
    """Return a bus over TCP: a process that pretends to be on another host is not found at a unix socket."""
    network.use("insecure")
    return network.bus()


@pytest.fixture
def start(processes: Processes, bus: BusPath) -> Callable[..., Process]:
    """Return a function that starts a worker, with an environment."""

    def start(module: str, **env: str) -> Process:
        process = processes.python("elsewhere.py", "run", "--bus", module, cwd=PROGRAMS, env=env, name=module)
        process.wait_for_line("Ready")
        return process

    return start


def sell(bus: BusPath, process: Process, first: int, count: int, size: int = 0) -> None:
    """Let one publisher fire."""
    bus.client.wait_for_apis("sale")
    instance = wait_until(lambda: next(iter(_instances(bus, process)), None), what=f"{process} is known")
    bus.sale.sell.call(first=first, count=count, size=size, bus_options={"peer": instance, "timeout": 60})


def _instances(bus: BusPath, process: Process) -> list[str]:
    instance = re.search(r"\((\w+)… on \S+\)\. Ready", process.output)
    peers = bus.client.engine.snapshot.by_api.get("sale", ())
    return [peer.instance for peer in peers if instance is not None and peer.instance.startswith(instance[1])]


def handled(process: Process, listener: str = "count") -> list[int]:
    """Return the numbers that a listener has handled, in order."""
    return [int(number) for number in re.findall(rf"^{listener} (\d+)\.$", process.stdout, re.MULTILINE)]


def stop(process: Process) -> None:
    """End a process in order."""
    process.ask_to_end()
    assert process.wait() == 0


def test_ten_groups_of_three(start: Callable[..., Process], bus: BusPath) -> None:
    """Each of ten groups gets every event of two publishers, in one of its three processes, which share them."""
    groups, each = [f"group{number}" for number in range(10)], scaled(3000, least=300)
    publishers = [start("sale"), start("sale")]
    members = [start("tally", LISTENERS=" ".join(groups)) for _ in range(3)]
    for member in members:
        wait_until(lambda member=member: len(set(re.findall(r"Events of (\S+ \S+) ", member.output))) == 2)
    for number, publisher in enumerate(publishers):
        sell(bus, publisher, number * each, each)

    def shares(group: str) -> list[list[int]]:
        return [handled(member, group) for member in members]

    for group in groups:
        wait_until(lambda group=group: sum(map(len, shares(group))) >= 2 * each, 60, what=f"{group} has all")
    for group in groups:
        assert sorted(number for share in shares(group) for number in share) == list(range(2 * each))
    # Of 16 partitions that are dealt to three, one gets none in 1 of 200 groups.
    assert sum(bool(share) for group in groups for share in shares(group)) > 25


@pytest.mark.parametrize("ahead", [300.0, -300.0])
def test_clocks_with_an_offset(start: Callable[..., Process], bus: BusPath, tmp_path: Path, ahead: float) -> None:
    """A consumer and a publisher whose clocks are 5 minutes off: no event is missed, no older one arrives."""

    def publisher(host: str, **env: str) -> Process:
        (tmp_path / host).mkdir(exist_ok=True)
        return start("sale", HOST=host, LIGHTBUS_DATA_DIR=str(tmp_path / host), **env)

    def member() -> Process:
        return start("tally", HOST="consumer", AHEAD=str(ahead))

    first = publisher("first")
    sell(bus, first, 0, 1)
    fired_at = time.monotonic()
    wait_until(lambda: time.monotonic() > fired_at + 1.0)  # longer than what clocks leave uncertain
    consumer = member()
    sell(bus, first, 1, 5)
    wait_until(lambda: sorted(handled(consumer)) == [1, 2, 3, 4, 5])
    stop(consumer)
    stop(first)
    # The second one cannot know of the group, and its member has forgotten since when there is one.
    second = publisher("second", AHEAD=str(-ahead / 2))
    sell(bus, second, 6, 5)
    fired_at = time.monotonic()
    wait_until(lambda: time.monotonic() > fired_at + 1.0)
    consumer = member()
    sell(bus, second, 11, 1)
    wait_until(lambda: handled(consumer) == [11])
    publisher("first")  # it tells
    wait_until(lambda: sorted(handled(consumer)) == [*range(6, 12)])


def test_a_new_journal_days_later(start: Callable[..., Process], bus: BusPath) -> None:
    """A second publisher, whose clock is days ahead, begins a journal while a group is away: it gets all events."""
    first, consumer = start("sale"), start("tally")
    sell(bus, first, 0, 1)
    wait_until(lambda: handled(consumer) == [0])
    stop(consumer)
    second = start("sale", AHEAD=str(DAYS))  # the first one has its journal
    sell(bus, second, 1, 20)
    sell(bus, first, 21, 1)
    first.kill()
    third = start("sale", AHEAD=str(2 * DAYS))  # goes on with the first one's
    sell(bus, third, 22, 1)
    consumer = start("tally", AHEAD=str(2 * DAYS))
    wait_until(lambda: sorted(handled(consumer)) == [*range(1, 23)])


def test_cap_deletes_events_of_an_absent_group_and_reports_it(
    start: Callable[..., Process], bus: BusPath, network: Network
) -> None:
    """A limit overrides a group that is away; its losses are reported at the publisher, and to the group."""
    config = network.config(journal={"max_events": 100, "min_age": 0.001})
    publisher, consumer = start("sale", LIGHTBUS_CONFIG=config), start("tally")
    sell(bus, publisher, 0, 1)
    wait_until(lambda: handled(consumer) == [0])
    stop(consumer)
    sell(bus, publisher, 1, 1000)
    publisher.wait_for_line(r"over its cap: \d+ events of sale\.sold were deleted that the group tally-count had not")
    wait_until(lambda: _lost_by(bus, publisher) == 900)
    consumer = start("tally")

    def told() -> int:
        return sum(int(count) for count in re.findall(r"^lost tally-count (\d+)\.$", consumer.stdout, re.MULTILINE))

    wait_until(lambda: len(handled(consumer)) + told() >= 1000)
    assert (sorted(handled(consumer)), told()) == ([*range(901, 1001)], 900)


def _lost_by(bus: BusPath, publisher: Process) -> int:
    [instance] = _instances(bus, publisher)
    return sum(group["lost"] for group in bus.internal.events.groups(bus_options={"peer": instance}))


@pytest.mark.long
def test_a_slow_consumer(start: Callable[..., Process], bus: BusPath) -> None:
    """25 ms per event, 200 MB fired at once: publisher and a fast group continue, and waiting events are on disk."""
    publisher, slow = start("sale"), start("tally", LISTENERS="slow", PAUSE="0.025")
    fast = start("tally", LISTENERS="fast")
    sell(bus, publisher, 0, 10)
    wait_until(lambda: len(handled(slow, "slow")) == len(handled(fast, "fast")) == 10)
    before = [_resident(publisher), _resident(slow)]
    sell(bus, publisher, 10, 4000, size=50_000)
    wait_until(lambda: len(handled(fast, "fast")) == 4010, 60)
    assert len(handled(slow, "slow")) < 3200
    grown = [after - then for then, after in zip(before, [_resident(publisher), _resident(slow)], strict=True)]
    print(f"memory grown by 200 MB of events, in MB: publisher {grown[0]:.0f}, slow consumer {grown[1]:.0f}")
    assert max(grown) < 120
    sell(bus, publisher, 4010, 1)
    wait_until(lambda: len(handled(fast, "fast")) == 4011)


def _resident(process: Process) -> float:
    """Return the resident memory of a process in MB."""
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
