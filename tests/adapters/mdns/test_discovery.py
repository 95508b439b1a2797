from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zeroconf import DNSOutgoing, DNSPointer, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

import lightbus
from helpers import MS, Stopwatch, scaled, wait_until_async
from helpers.discovering import announcement, listening
from helpers.surroundings import Surroundings
from lightbus.adapters.mdns import discovery, multicast_group
from lightbus.adapters.mdns.discovery import SERVICE_TYPE, ZeroconfDiscovery, instance_name
from lightbus.adapters.mdns.intake import Intake
from lightbus.adapters.mdns.multicast_group import MDNS_GROUP, taking_part
from lightbus.ports.discovery import Discovery
from lightbus.wire.announcement import Announcement, new_instance_id

LOOPBACK = "127.0.0.1"


@pytest.fixture
def bus(surroundings: Surroundings) -> str:
    """Return a bus name that nothing else on this host uses."""
    return surroundings.bus


def test_each_newcomer_finds_all_at_once(bus: str) -> None:
    """Newcomers in quick succession find all four workers, each long before mDNS would repeat an answer (1 s)."""

    async def scenario() -> None:
        workers = [ZeroconfDiscovery(bus) for _ in range(4)]
        for worker in workers:
            await worker.start(lambda peer: None, lambda instance: None)
            await worker.announce(announcement(bus))
        for _ in range(scaled(20, least=3)):
            watch = Stopwatch()
            async with listening(ZeroconfDiscovery(bus)) as ears:
                await wait_until_async(lambda ears=ears: len(ears.found) == 4)
            assert watch.seconds < 500 * MS
        for worker in workers:
            await worker.stop()

    asyncio.run(scenario())


def test_look_asks_again_for_what_got_lost(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no answer to its first questions came through, it asks again."""
    take, is_deaf, lost = Intake.take, True, b""

    def hear(intake: Intake, reader: Any, data: bytes, source: tuple[str, int]) -> None:
        nonlocal lost
        if is_deaf:
            lost += data
        else:
            take(intake, reader, data, source)

    async def scenario() -> None:
        nonlocal is_deaf
        announced = announcement(bus)
        peer, newcomer = ZeroconfDiscovery(bus), ZeroconfDiscovery(bus)
        async with listening(peer):
            await peer.announce(announced)
            await asyncio.wait([peer._sending])  # the announcement is not repeated any more
            monkeypatch.setattr(Intake, "take", hear)
            async with listening(newcomer) as ears:
                await newcomer._browser._query_sender_task
                newcomer._browser.query_scheduler.stop()
                await wait_until_async(lambda: announced.instance.encode() in lost)
                is_deaf = False
                newcomer._ask_at = 0.0
                newcomer.look()
                await ears.hear(announced)

    asyncio.run(scenario())


def test_repeated_questions_are_few_and_name_known_peers(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between them double, and those that were heard of need not answer: else in a crowd all would."""
    monkeypatch.setattr(discovery, "FIRST_PAUSE", 15.0)
    announced, sent = announcement(bus), []

    async def scenario() -> None:
        asking = ZeroconfDiscovery(bus)
        async with listening(asking) as ears, listening(peer := ZeroconfDiscovery(bus)):
            await peer.announce(announced)
            await ears.hear(announced)
            with monkeypatch.context() as patch:
                patch.setattr(type(asking._zeroconf.zeroconf), "async_send", lambda self, out, *rest: sent.append(out))
                pauses = []
                asking.look()  # too soon after the start
                for _ in range(4):
                    asking._ask_at = time.monotonic()
                    pauses.append(asking._pause)
                    asking.look()
                    asking.look()  # too soon
                asking._ask_at = time.monotonic() - discovery.LONGEST_PAUSE  # nobody has waited since
                asking.look()
                pauses.append(asking._pause)
            assert pauses == [15, 30, 60, 60, 30]

    asyncio.run(scenario())
    assert len(sent) == 5
    for question in sent:
        [packet] = question.packets()
        assert instance_name(announced).partition(".")[0].encode() in packet


def test_tcp_announcement_comes_with_its_addresses(bus: str) -> None:
    """A peer with TCP ports is found with its ports and its own addresses."""

    async def scenario() -> None:
        announced = announcement(bus, addresses=("192.0.2.7", "192.0.2.8"), rpc_port=5000, event_port=5001)
        peer = ZeroconfDiscovery(bus)
        async with listening(ZeroconfDiscovery(bus)) as ears, listening(peer):
            await peer.announce(announced)
            await wait_until_async(lambda: ears.found)
            (got,) = ears.found
            assert replace(got, addresses=tuple(sorted(got.addresses))) == announced

    asyncio.run(scenario())


def test_other_interfaces_are_used_and_announced_at_once(bus: str) -> None:
    """On other interfaces it hears others and is heard, and announces its new addresses, at once."""

    async def scenario() -> None:
        before = announcement(bus, addresses=("127.0.0.1",), rpc_port=5000, event_port=5001)
        after, other = replace(before, addresses=("127.0.0.2",)), announcement(bus)
        moving, staying = ZeroconfDiscovery(bus), ZeroconfDiscovery(bus)
        async with listening(moving) as its_ears, listening(staying) as ears:
            await moving.announce(before)
            await ears.hear(before)
            await moving.move(["127.0.0.2"], after)
            assert moving.addresses == ("127.0.0.2",)
            # That it is not at the old one any more is known a second later (RFC 6762 section 10.2).
            await wait_until_async(lambda: "127.0.0.2" in ears.found[-1].addresses)
            await staying.announce(other)
            await its_ears.hear(other)
            assert moving.problem is None

    asyncio.run(scenario())


def test_start_that_fails_half_way_leaves_nothing_open(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket and no browser; the next attempt starts as a whole, so that peers are found."""
    made: list[Zeroconf] = []
    wait = Zeroconf.async_wait_for_start

    async def fails_once(zeroconf: Zeroconf, *args: Any, **options: Any) -> None:
        await wait(zeroconf, *args, **options)
        made.append(zeroconf)
        if len(made) == 1:
            raise RuntimeError("out of order")

    async def scenario() -> None:
        announced = announcement(bus)
        late = ZeroconfDiscovery(bus)
        async with listening(ZeroconfDiscovery(bus)) as ears:
            with monkeypatch.context() as patched:
                patched.setattr(Zeroconf, "async_wait_for_start", fails_once)
                async with listening(late):
                    assert "(out of order)" in str(late.problem)
                    assert made[0].done
                    assert all(each.transport.is_closing() for each in made[0].engine.readers)
                    await late.move([LOOPBACK], announced)
                    await ears.hear(announced)

    asyncio.run(scenario())


def test_move_starts_after_a_failed_start(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If starting failed, it works once there is an address; after `stop` nothing starts again."""

    async def scenario() -> None:
        announced = announcement(bus)
        late = ZeroconfDiscovery(bus, addresses=["192.0.2.99"])
        async with listening(ZeroconfDiscovery(bus)) as ears, listening(late):
            assert "zeroconf cannot listen on 192.0.2.99" in str(late.problem)
            await late.move([LOOPBACK], announced)
            await ears.hear(announced)
            assert late.problem is None
        await late.move(["127.0.0.2"], announced)

    asyncio.run(scenario())


def test_announcement_is_not_repeated_after_the_goodbye(bus: str) -> None:
    """An announcement is sent three times in half a second; after a goodbye no repeat is sent."""

    async def scenario() -> None:
        announced = announcement(bus)
        peer = ZeroconfDiscovery(bus)
        async with listening(ZeroconfDiscovery(bus)) as ears, listening(peer):
            await peer.announce(announced)
            await ears.hear(announced)
            await peer.withdraw()
            await ears.lose(announced)
            await asyncio.sleep(500 * MS)  # the absence of something cannot be awaited
            await ears.hear(announced)

    asyncio.run(scenario())


def leave_group(made: ZeroconfDiscovery) -> None:
    """Do what the kernel does when an interface is removed."""
    membership = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(LOOPBACK)
    for reader in made._zeroconf.zeroconf.engine.readers:
        own = reader.transport.get_extra_info("socket")
        if own.getsockname()[0] == "0.0.0.0":
            own.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, membership)


@pytest.mark.parametrize("failures", [0, 2])
def test_replaced_interface(
    bus: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    """A card that was unplugged and is back has the same address: multicast starts anew, without a goodbye."""
    left = failures

    def fails_first(addresses: Sequence[str]) -> list[str]:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError("gone again")
        return taking_part(addresses)

    async def scenario() -> None:
        announced, other = announcement(bus), announcement(bus)
        made, staying = ZeroconfDiscovery(bus), ZeroconfDiscovery(bus)
        async with listening(made) as its_ears, listening(staying) as ears:
            await made.announce(announced)
            await ears.hear(announced)
            made._watch.look()
            assert made._watch.rejoining is None
            leave_group(made)
            monkeypatch.setattr(discovery, "taking_part", fails_first)
            for number in range(failures + 1):
                made._watch.look()
                made._watch.look()  # while it is being done
                await made._watch.rejoining
                assert (made.problem is None) is (number == failures)
            await staying.announce(other)
            await its_ears.hear(other)
            done = made._watch.rejoining
            made._watch.look()
            async with made._moving:
                leave_group(made)
                made._watch.look()  # while it moves, its sockets may be in the group or not
            assert made._watch.rejoining is done
            assert ears.lost == []
            await made.announce(replace(announced, api_names=()))
            await ears.hear(announced, replace(announced, api_names=()))

    asyncio.run(scenario())
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == (1 if failures else 0)


def test_checks_of_interfaces(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are regular while it runs, and there are none on loopback, which is never replaced."""
    monkeypatch.setattr(multicast_group, "LOOK_EVERY", 0.01)
    checks: list[object] = []
    monkeypatch.setattr(multicast_group, "has_left", lambda sockets, addresses: checks.append(addresses))

    async def scenario() -> None:
        async with listening(ZeroconfDiscovery(bus)):
            async with listening(ZeroconfDiscovery(bus, addresses=["127.0.0.2"])):
                await wait_until_async(lambda: len(checks) > 2)
            stopped = len(checks)
            await asyncio.sleep(50 * MS)  # the absence of something cannot be awaited
            assert checks == [["127.0.0.2"]] * stopped

    asyncio.run(scenario())


def test_no_news_equals_earlier_ones(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeroconf ignores a packet that equals one of the last 0.8 s: back and gone again, a peer would not be heard."""
    sent: set[bytes] = set()  # each is sent up to three times

    def send(self: Zeroconf, out: DNSOutgoing, *rest: Any) -> None:
        if out.is_response() and len(out.answers) > 1:  # neither a question, with what is known, nor its answer
            sent.update(out.packets())

    async def scenario() -> None:
        peer, announced = ZeroconfDiscovery(bus), announcement(bus)
        async with listening(peer):
            monkeypatch.setattr(Zeroconf, "async_send", send)
            for _ in range(2):
                await peer.announce(announced)
                await peer.announce(replace(announced, api_names=()))
                await peer.announce(announced)
                await peer.withdraw()
            monkeypatch.undo()

    asyncio.run(scenario())
    assert len(sent) == 2 * 4


@pytest.mark.parametrize("turns", range(1, 9))
def test_no_socket_is_left_by_a_loop_that_ends_while_it_starts(bus: str, turns: int) -> None:
    """All tasks are cancelled then, in the library too, and its starter stops it (see `helpers.leaks`)."""
    peer = ZeroconfDiscovery(bus)

    async def life() -> None:
        try:
            await peer.start(lambda announced: None, lambda instance: None)
            await asyncio.get_running_loop().create_future()
        finally:
            await peer.stop()

    async def scenario() -> None:
        task = asyncio.create_task(life())
        for _ in range(turns):
            await asyncio.sleep(0)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert peer.problem is None

    asyncio.run(scenario())


def test_renamed_service_replaces_the_old_name(bus: str) -> None:
    """A process that announces itself under another service name is not left under the old one."""

    async def scenario() -> None:
        before = announcement(bus)
        after = replace(before, service="customers-service")
        peer = ZeroconfDiscovery(bus)
        async with listening(ZeroconfDiscovery(bus)) as ears, listening(peer):
            await peer.announce(before)
            await ears.hear(before)
            await peer.announce(after)
            await ears.hear(before, after)
            assert ears.lost == [before.instance]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("service", "label"),
    [
        ("auth-service", "auth-service"),
        ("my.service (1)", "my-service-1"),
        ("_x_", "x"),
        ("日本", "peer"),
        ("s" * 128, "s" * 46),
    ],
)
def test_instance_name_is_readable_and_at_most_63_bytes(service: str, label: str) -> None:
    """The DNS name is readable, of plain characters, and its first label has 63 bytes at most."""
    announced = announcement("test", service=service)

    name = instance_name(announced)

    assert name == f"{label}-{announced.instance}.{SERVICE_TYPE}"
    assert len(name.partition(".")[0]) <= 63


# --- foreign peers, stale records and network errors --------------------------------------------------


@asynccontextmanager
async def stranger() -> AsyncIterator[AsyncZeroconf]:
    """Speak mDNS on loopback without our own code."""
    zeroconf = AsyncZeroconf(interfaces=[LOOPBACK])
    await zeroconf.zeroconf.async_wait_for_start()
    try:
        yield zeroconf
    finally:
        await zeroconf.async_close()


def service_info(announced: Announcement, *, name: str = "", **changed: bytes) -> AsyncServiceInfo:
    """Return the DNS-SD service of `announced`, with some pairs of its TXT record changed."""
    properties = {**announced.to_txt(), **{key.encode(): value for key, value in changed.items()}}
    name = name or instance_name(announced)
    return AsyncServiceInfo(SERVICE_TYPE, name, port=0, properties=properties, parsed_addresses=[LOOPBACK])


def pointer(name: str, ttl: int = 4500) -> DNSOutgoing:
    """Return a packet with a pointer to a service, without the service itself."""
    out = DNSOutgoing(0x8400)  # an authoritative response
    out.add_answer_at_time(DNSPointer(SERVICE_TYPE, 12, 1, ttl, name), 0)
    return out


def serve_silently(speaker: AsyncZeroconf, announced: Announcement) -> None:
    """Send only the name of a service; the rest is sent on request."""
    info = service_info(announced)
    info.set_server_if_missing()
    speaker.zeroconf.registry.async_add(info)
    speaker.zeroconf.async_send(pointer(info.name))


@pytest.mark.parametrize(
    ("kind", "warning", "fields"),
    [
        ("other bus", "", {"bus": b"somebody-else"}),
        ("other protocol", "it speaks version b'99' of the protocol", {"v": b"99"}),
        ("malformed", "is not 16 lowercase hexadecimal digits", {"id": b"../../etc/passwd"}),
        ("malformed", "its TXT record has 15", {f"x{n}": b"x" * 240 for n in range(6)}),
        ("malformed", "does not end with its instance id", {"name": f"auth-0123456789abcdef.{SERVICE_TYPE}"}),
    ],
)
def test_useless_announcements_are_counted(
    bus: str, caplog: pytest.LogCaptureFixture, kind: str, warning: str, fields: dict[str, Any]
) -> None:
    """Foreign or malformed ones are not reported, and warned of once unless they belong to another bus."""
    announced, friendly = announcement(bus), announcement(bus)

    async def scenario() -> None:
        made, friend = ZeroconfDiscovery(bus), ZeroconfDiscovery(bus)
        async with listening(made) as ears, listening(friend), stranger() as speaker:
            repeats = await speaker.async_register_service(
                service_info(announced, **fields), cooperating_responders=True
            )
            await friend.announce(friendly)
            await ears.hear(friendly)
            await wait_until_async(lambda: made.ignored[kind] >= 1)
            repeats.cancel()

    with caplog.at_level(logging.WARNING, logger="lightbus.discovery"):
        asyncio.run(scenario())
    # Both listeners of this test warn once; perhaps also of announcements of other tests on this loopback.
    texts = [record.getMessage() for record in caplog.records if announced.instance in record.getMessage()]
    assert [warning in text for text in texts] == ([True, True] if warning else [])


def test_a_peer_with_another_key_is_remembered(bus: str) -> None:
    """A peer that offers an API to holders of another key can be named in an error, until it leaves."""
    api = f"auth-{bus}"  # concurrent tests announce peers, too

    async def scenario() -> None:
        made = ZeroconfDiscovery(bus)
        keyed = announcement(
            "another", fingerprint="f1", api_names=(api,), addresses=(LOOPBACK,), rpc_port=1, event_port=2
        )
        plain = announcement("another", api_names=(api,))
        friend = ZeroconfDiscovery("another")
        async with listening(made), listening(friend), stranger() as speaker:
            await speaker.async_register_service(service_info(plain), cooperating_responders=True)
            await friend.announce(keyed)
            await wait_until_async(lambda: made.foreign_peers(api))
            [clause] = made.foreign_peers(api)
            assert clause == f"{keyed} offers it to holders of the key f1: compare `lightbus keys show`"
            assert made.foreign_peers(f"shop-{bus}") == []
            await friend.withdraw()
            await wait_until_async(lambda: not made.foreign_peers(api))

    asyncio.run(scenario())


def test_few_peers_with_another_key_are_remembered(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are announced."""
    monkeypatch.setattr(discovery, "MAX_FOREIGN_PEERS", 2)
    made = ZeroconfDiscovery(bus)
    for number in range(3):
        made._on_service_info(service_info(announcement("another", fingerprint=f"f{number}", api_names=("auth",))))
    assert len(made.foreign_peers("auth")) == 2
    assert made.ignored["other bus"] == 3


def test_flood_of_useless_announcements_is_warned_of_once(bus: str, caplog: pytest.LogCaptureFixture) -> None:
    """Announcing nonsense under many names does not fill the log: the rest is only counted."""

    async def scenario() -> None:
        made = ZeroconfDiscovery(bus)
        async with listening(made), stranger() as speaker:
            for _ in range(5):
                info = service_info(announcement(bus), v=b"2")
                await speaker.async_register_service(info, cooperating_responders=True)
            await wait_until_async(lambda: made.ignored["other protocol"] == 5)

    with caplog.at_level(logging.WARNING, logger="lightbus.discovery"):
        asyncio.run(scenario())
    assert len(caplog.records) == 1


def test_number_of_peers_is_bounded(bus: str, caplog: pytest.LogCaptureFixture) -> None:
    """No more peers are kept than allowed: a new one is reported, and the oldest is forgotten silently."""

    async def scenario() -> None:
        one, two = announcement(bus), announcement(bus)
        made, first, second = ZeroconfDiscovery(bus, max_peers=1), ZeroconfDiscovery(bus), ZeroconfDiscovery(bus)
        async with listening(made) as ears, listening(first), listening(second):
            await first.announce(one)
            await ears.hear(one)
            await second.announce(two)
            await ears.hear(one, two)
            assert made.ignored["too many peers"] == 1
            await first.withdraw()
            await second.withdraw()
            await ears.lose(two)

    asyncio.run(scenario())
    assert "1 newer peers are announced" in caplog.text


def test_incomplete_announcement_is_resolved(bus: str) -> None:
    """If only the name of a peer was heard, the rest is requested."""

    async def scenario() -> None:
        announced = announcement(bus)
        async with listening(ZeroconfDiscovery(bus)) as ears, stranger() as speaker:
            serve_silently(speaker, announced)
            await ears.hear(announced)

    asyncio.run(scenario())


def test_unresolved_name_is_given_up(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without an answer is counted after a bounded time, and not reported."""
    monkeypatch.setattr(discovery, "RESOLVE_TIMEOUT", 20 * MS)

    async def scenario() -> None:
        made = ZeroconfDiscovery(bus)
        async with listening(made) as ears, stranger() as speaker:
            speaker.zeroconf.async_send(pointer(f"ghost-{new_instance_id()}.{SERVICE_TYPE}"))
            await wait_until_async(lambda: made.ignored["unresolved"] == 1)
            assert ears.found == []

    asyncio.run(scenario())


def test_number_of_questions_is_bounded(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the maximum of names is being resolved, further ones are only counted; a goodbye makes room."""
    monkeypatch.setattr(discovery, "MAX_RESOLVING", 1)

    async def scenario() -> None:
        made, announced = ZeroconfDiscovery(bus), announcement(bus)
        names = [f"ghost-{new_instance_id()}.{SERVICE_TYPE}" for _ in range(2)]
        async with listening(made) as ears, stranger() as speaker:
            for name in names:
                speaker.zeroconf.async_send(pointer(name))
            await wait_until_async(lambda: made.ignored["unresolved"] == 1)
            speaker.zeroconf.async_send(pointer(names[0], ttl=0))
            serve_silently(speaker, announced)
            await ears.hear(announced)

    asyncio.run(scenario())


class Broken:
    """Replaces AsyncZeroconf, as if the operating system refused."""

    def __init__(self, **options: Any) -> None:
        raise OSError(99, "Cannot assign requested address")


def through_a_whole_life(made: Discovery, bus: str) -> Coroutine[Any, Any, None]:
    """Start, announce, withdraw and stop."""

    async def life() -> None:
        async with listening(made):
            await made.announce(announcement(bus))
            await made.withdraw()

    return life()


def test_failure_is_reported_and_not_raised(
    bus: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If zeroconf cannot start, there is a warning with the remedy, and all else works."""
    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", Broken)
    made = ZeroconfDiscovery(bus)

    asyncio.run(through_a_whole_life(made, bus))

    assert made.problem == (
        "zeroconf cannot listen on 127.0.0.1 ([Errno 99] Cannot assign requested address), so peers do not find each "
        "other; see that UDP port 5353 is shared and multicast allowed, or name a peer: LIGHTBUS_PEERS=host:port"
    )
    assert [record.getMessage() for record in caplog.records] == [made.problem]


@pytest.mark.parametrize("method", ["async_register_service", "async_unregister_service", "async_close"])
def test_later_failure_is_reported_and_not_raised(bus: str, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """An error of the library while announcing, withdrawing or stopping raises nothing."""
    closed = AsyncZeroconf.async_close

    async def fail(zeroconf: AsyncZeroconf, *args: Any, **options: Any) -> None:
        if method == "async_close":
            await closed(zeroconf)
        raise RuntimeError("out of order")

    monkeypatch.setattr(AsyncZeroconf, method, fail)
    made = ZeroconfDiscovery(bus)

    asyncio.run(through_a_whole_life(made, bus))

    assert "(out of order)" in str(made.problem)


IN_A_NAMESPACE = """
import asyncio, socket, sys
from lightbus.adapters.mdns.discovery import ZeroconfDiscovery
from lightbus.wire.announcement import Announcement, new_instance_id

def announcement(address):
    return Announcement(
        bus="t", instance=new_instance_id(), service="s", process="p", host="h",
        addresses=(address,), rpc_port=5000, event_port=5001,
    )

async def port_taken(*addresses):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 5353))
        await alone(*addresses)

async def alone(*addresses):
    made = ZeroconfDiscovery("t", addresses=addresses)
    await made.start(print, print)
    await made.announce(announcement(addresses[0]))
    await made.stop()
    print(made.problem)

async def two(*addresses):
    found, lost = asyncio.Event(), asyncio.Event()
    peer, made = ZeroconfDiscovery("t", addresses=addresses), ZeroconfDiscovery("t", addresses=addresses)
    await made.start(lambda peer: found.set(), lambda instance: lost.set())
    await peer.start(lambda peer: None, lambda instance: None)
    await peer.announce(announcement(addresses[0]))
    await asyncio.wait_for(found.wait(), 60)
    await peer.stop()
    await asyncio.wait_for(lost.wait(), 60)
    await made.stop()
    print(made.problem)

asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
"""

LINK = "ip link set lo up && ip link add lan0 type veth peer name lan1 && ip addr add 192.0.2.7/24 dev lan0 && "
LINK += "ip link set lan0 up && ip link set lan1 up && "


def in_a_namespace(setup: str, *args: str) -> str:
    """Run `IN_A_NAMESPACE` in a separate network namespace, after `setup`; return its output at the end."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make network namespaces")
    if setup and shutil.which("ip") is None:
        pytest.skip("there is no `ip` to set up a network with")
    package = Path(lightbus.__path__[0]).parent
    command = [unshare, "-rn", "sh", "-c", f'{setup} exec "$@"', "sh", sys.executable, "-c", IN_A_NAMESPACE, *args]
    done = subprocess.run(command, cwd=package, check=True, capture_output=True, text=True, timeout=240)
    return done.stdout.strip()


@pytest.mark.network
@pytest.mark.parametrize(
    ("setup", "what", "addresses", "expected"),
    [
        ("", "alone", [LOOPBACK], "zeroconf cannot listen on 127.0.0.1 ([Errno 19] No such device)"),
        ("", "port_taken", [LOOPBACK], "zeroconf cannot listen on 127.0.0.1 ([Errno 98] Address already in use)"),
        (LINK, "two", ["192.0.2.7"], "None"),
        (LINK, "two", ["192.0.2.7", "198.51.100.9"], "None"),
    ],
    ids=["no network", "port taken", "lan", "one interface gone"],
)
def test_missing_network_or_taken_port_is_a_problem_and_no_error(
    setup: str, what: str, addresses: list[str], expected: str
) -> None:
    """Without a network, or with the port taken, `problem` is set; on a LAN peers come and go."""
    assert in_a_namespace(setup, what, *addresses).startswith(expected)
