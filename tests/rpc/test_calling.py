"""The path of a call: which peer is asked, which message is sent, and what happens on each kind of failure."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import MS, wait_until_async
from helpers.calling import ME, A, B, FakeRequestContext, call, peer, refusal, run, snapshot
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.core.peers import PeerState
from lightbus.deadline import Deadline, ServedCall, current_call
from lightbus.exceptions import (
    DeformError,
    InvalidParameters,
    LightbusException,
    LightbusShutdownInProgress,
    LightbusTimeout,
    LightbusWorkerError,
    PayloadTooLarge,
    PeerBusy,
    PeerLost,
    PeerUnreachable,
    ProtocolError,
    UnknownApi,
)
from lightbus.rpc.calling import Caller
from lightbus.rpc.request import OutboundEvent
from lightbus.wire import envelope
from lightbus.wire.envelope import Accepted, AnyMessage, Cancel, Error, Fire, Request, Result, Welcome

# What is sent, and what comes back


def test_a_call_and_its_result() -> None:
    """The request contains the procedure, the caller, the remaining time, and the intended instance."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda message: Result(True)
        current_call.set(ServedCall(Deadline.in_seconds(9.0), (B,)))
        assert await caller.request(call(context, trace={"traceparent": "00"})) is True
        [request] = context.sent(A)
        assert isinstance(request, Request)
        assert 4.0 < request.left <= 5.0
        assert request._replace(left=0.0) == Request(
            A, "auth", "check", 0.0, ME.instance, [B], {"traceparent": "00"}, 0, {"user": "sally"}
        )
        assert context.resolved == []

    run(test, peer(A))


def test_calls_share_a_connection() -> None:
    """Replies find their calls by id, in any order; a late reply is ignored."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        tasks = [asyncio.ensure_future(caller.request(call(context, kwargs={"n": n}))) for n in range(3)]
        await wait_until_async(lambda: len(context.sent(A)) == 3)
        assert caller.pending.in_flight == {A: 3}
        dealer = context.dealers[A]
        for call_id, request in reversed(dealer.sent):
            assert isinstance(request, Request)
            dealer.receive(Result(request.kwargs["n"]), call_id)
        assert await asyncio.gather(*tasks) == [0, 1, 2]
        dealer.receive(Result("late"), 1)
        assert caller.pending.late_replies == 1

    run(test, peer(A))


def test_answers_to_calls_at_another_peer() -> None:
    """Whether they can be read or not, they are ignored: the peer that was called answers."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[B] = lambda message: Result("B")
        context.snapshot = snapshot(peer(B))
        assert await caller.request(call(context)) == "B"  # B is connected, and has seen a call id
        context.snapshot = snapshot(peer(A))
        task = asyncio.ensure_future(caller.request(call(context)))
        await wait_until_async(lambda: context.sent(A))
        [(call_id, _)] = context.dealers[A].sent
        context.dealers[B].receive(Result("forged"), call_id)
        context.dealers[B].receive(envelope.encode(Result(1), call_id)[:-1], call_id)
        context.dealers[A].receive(Result("A"), call_id)
        assert await task == "A"
        assert caller.pending.late_replies == 2

    run(test, peer(A))


def test_a_hand_off_and_its_answer() -> None:
    """An event is sent as it was encoded, and returns the publisher's answer."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.wanted.clear()
        context.replies[A] = lambda message: Accepted("j-1", A)
        event = OutboundEvent(context, "auth", "seen", Deadline.after(5.0), b"record", "key")
        assert await caller.request(event) == Accepted("j-1", A)
        [fire] = context.sent(A)
        assert isinstance(fire, Fire)
        assert fire._replace(left=0.0) == Fire(A, "auth", "seen", 0.0, "key", b"record", "journal")

    run(test, peer(A))


def test_an_unknown_name_is_resolved_first() -> None:
    """An API that this process has not used before is looked up; the peer that is found is asked."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.wanted.clear()
        context.replies[A] = lambda message: Result(1)
        context.on_resolve = lambda: setattr(context, "snapshot", snapshot(peer(A)))
        assert await caller.request(call(context)) == 1
        assert context.resolved == ["auth"]
        with pytest.raises(UnknownApi, match="nobody advertises shop"):
            await caller.request(call(context, api="shop"))

    run(test)


def test_a_resolved_peer_that_is_gone_again() -> None:
    """If the peer that was found is gone before it is asked, the API is looked up again."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda message: Result(1)
        found = iter([snapshot(peer(A, PeerState.SUSPECT)), snapshot(peer(A))])
        context.on_resolve = lambda: setattr(context, "snapshot", next(found))
        assert await caller.request(call(context)) == 1
        assert context.resolved == ["auth", "auth"]

    run(test)


def test_arguments_that_cannot_be_sent() -> None:
    """The error names the argument; nothing was sent."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        with pytest.raises(DeformError, match=r"arguments of auth\.check cannot be sent: kwargs\.user is an object"):
            await caller.request(call(context, kwargs={"user": object()}))
        with pytest.raises(PayloadTooLarge, match=r"arguments of auth\.check take \d+ bytes; a message may have 10000"):
            await caller.request(call(context, kwargs={"user": "x" * 10_000}))
        assert [message for message in context.sent(A) if isinstance(message, Request)] == []

    run(test, peer(A))


# Refusals


def test_a_refused_call_moves_to_another_peer() -> None:
    """A peer that certainly did not start the call is asked once, and then the next one."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = context.replies[B] = lambda message: refusal()
        with pytest.raises(PeerBusy, match=r"No peer takes auth\.check: it is full\."):
            await caller.request(call(context))
        assert len(context.sent(A)) == len(context.sent(B)) == 1
        context.dealers[B]._reply = lambda message: Result("from b")
        for _ in range(5):
            assert await caller.request(call(context)) == "from b"

    run(test, peer(A), peer(B))


def test_a_stalled_peer_is_asked_again_with_its_stall_count() -> None:
    """A peer whose loop was stalled gets the call once more, with its stall count; refused again, it is skipped."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda m: Result(1) if isinstance(m, Request) and m.stall_count == 4 else refusal(epoch=4)
        assert await caller.request(call(context)) == 1
        assert [m.stall_count for m in context.sent(A) if isinstance(m, Request)] == [0, 4]
        context.dealers[A]._reply = lambda message: refusal(epoch=4)
        with pytest.raises(PeerBusy):
            await caller.request(call(context))
        assert len(context.sent(A)) == 4

    run(test, peer(A))


def test_refusals_end_with_the_deadline() -> None:
    """A peer that refuses with ever new stall counts does not delay the caller beyond the deadline."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        numbers = iter(range(1, 2**62))
        context.replies[A] = lambda message: refusal(epoch=next(numbers))
        with pytest.raises((PeerBusy, LightbusTimeout)):
            await caller.request(call(context, left=30 * MS))
        with pytest.raises((PeerBusy, LightbusTimeout)):
            await caller.request(call(context, left=30 * MS, only=A))

    run(test, peer(A))


def test_peers_refuse_for_different_reasons() -> None:
    """When all peers have refused, for any reasons, one error is raised that means "nothing was done"."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda message: refusal("peer_refused")
        with pytest.raises(PeerBusy, match="No peer takes"):
            await caller.request(call(context))

    run(test, peer(A))


def test_refusal_is_raised_if_the_peer_left_afterwards() -> None:
    """When the only peer refuses, leaves and has no successor, the caller gets the refusal."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        def leave(message: AnyMessage) -> AnyMessage:
            context.snapshot = snapshot()
            return refusal()

        context.replies[A] = leave
        with pytest.raises(PeerBusy):
            await caller.request(call(context))
        assert context.resolved == ["auth"]

    run(test, peer(A))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            Error("invalid_parameters", "no such argument.", False, {}),
            InvalidParameters,
            "no such argument. (says auth",
        ),
        (Error("peer_busy", "no.", True, {"elsewhere": True}), PeerBusy, "no. (says auth"),
        (Error("of_a_later_version", "odd.", False, {}), LightbusException, "odd. (says auth"),
    ],
)
def test_an_error_reply_is_raised_without_another_attempt(error: Error, kind: type[Exception], text: str) -> None:
    """A final error, or one after which the call may have been executed, goes to the caller; no other peer is asked."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = context.replies[B] = lambda message: error
        with pytest.raises(LightbusException) as caught:
            await caller.request(call(context))
        assert type(caught.value) is kind
        assert text in str(caught.value)
        assert len(context.sent(A)) + len(context.sent(B)) == 1

    run(test, peer(A), peer(B))


@pytest.mark.parametrize(
    ("details", "args"),
    [
        ({"type": "builtins.ValueError", "args": ["no", 1], "trace": "line 1"}, ("no", 1)),
        ({"type": None, "args": "odd"}, ()),
        ({}, ()),
    ],
)
def test_the_error_of_a_handler(details: dict[str, Any], args: tuple[Any, ...]) -> None:
    """The caller gets type, arguments, traceback and peer, as far as they were sent."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda message: Error("worker_error", "it failed", True, details)
        with pytest.raises(LightbusWorkerError) as caught:
            await caller.request(call(context))
        error = caught.value
        assert error.args == ("it failed (raised by auth-service aaaa… on host far)",)
        assert (error.remote_type, error.remote_args) == (str(details.get("type", "")), args)
        assert (error.trace, error.peer) == (details.get("trace", ""), "auth-service aaaa… on host far")

    run(test, peer(A))


@pytest.mark.parametrize("reply", [Welcome({}, "", 0.0, False), Accepted("j-1", A), Cancel()])
def test_an_answer_of_the_wrong_kind(reply: AnyMessage) -> None:
    """A message that is no answer to a call is an error of the peer, and is not used as a result."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda message: reply
        with pytest.raises(ProtocolError, match=f"answered auth.check with a {type(reply).__name__} message"):
            await caller.request(call(context))

    run(test, peer(A))


def test_a_result_is_no_answer_to_a_hand_off() -> None:
    """A result message is not accepted as the acceptance of an event."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[A] = lambda message: Result(1)
        with pytest.raises(ProtocolError, match=r"answered auth\.seen with a Result message"):
            await caller.request(OutboundEvent(context, "auth", "seen", Deadline.after(5.0), b"r", None))

    run(test, peer(A))


def test_an_unreadable_answer() -> None:
    """The call that it answers fails at once; one that answers no call is counted."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        broken = envelope.encode(Result(1), 1)[:10] + b"\xc1"
        context.replies[A] = lambda message: broken
        with pytest.raises(ProtocolError, match="cannot be decoded"):
            await caller.request(call(context))
        context.dealers[A].receive(b"garbage", 0)
        assert caller.protocol_errors == 2

    run(test, peer(A))


# Time and loss


def test_the_deadline_passes() -> None:
    """The caller learns that the call may have been executed, and the peer is told to cancel it."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        with pytest.raises(
            LightbusTimeout, match=r"did not answer auth\.check within 0\.0\d+ s\. It may or may not have been"
        ):
            await caller.request(call(context, left=10 * MS))
        assert context.dealers[A].sent[-1] == (1, Cancel())

    run(test, peer(A))


def test_a_late_call_does_not_affect_others() -> None:
    """Each call has its own deadline."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        patient = asyncio.ensure_future(caller.request(call(context)))
        await wait_until_async(lambda: context.sent(A))
        with pytest.raises(LightbusTimeout):
            await caller.request(call(context, left=10 * MS))
        context.dealers[A].receive(Result("there"), 1)
        assert await patient == "there"

    run(test, peer(A))


def test_a_cancelled_task_cancels_its_call() -> None:
    """The peer is told when the caller no longer waits, for whatever reason."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        task = asyncio.ensure_future(caller.request(call(context)))
        await wait_until_async(lambda: context.sent(A))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert context.dealers[A].sent[-1] == (1, Cancel())
        context.dealers[A].receive(Result(1), 1)

    run(test, peer(A))


def test_a_call_waits_for_its_connection() -> None:
    """A frame that cannot be sent yet is sent when the connection is established."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.connected = False
        context.replies[A] = lambda message: Result(1)
        task = asyncio.ensure_future(caller.request(call(context)))
        await wait_until_async(lambda: A in context.dealers and context.dealers[A].waiting)
        context.dealers[A].connect()
        assert await task == 1

    run(test, peer(A))


def test_a_cancelled_call_is_never_sent() -> None:
    """Without a connection it was certainly not executed; the caller is told so, and it is not sent later."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.connected = False
        with pytest.raises(PeerUnreachable, match=r"auth\.check was not sent: no connection to auth-service aaaa…"):
            await caller.request(call(context, left=10 * MS))
        context.dealers[A].connect()
        assert context.sent(A) == []

    run(test, peer(A))


def test_a_peer_is_lost_during_a_call() -> None:
    """The call may have been executed, so it is not repeated, and the error says both."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        task = asyncio.ensure_future(caller.request(call(context)))
        await wait_until_async(lambda: context.sent(A))
        context.snapshot = snapshot(peer(B))
        caller.peer_lost(peer(A), "went away")
        with pytest.raises(
            PeerLost, match=r"auth-service aaaa… on host far went away while auth\.check was in progress"
        ):
            await task
        assert context.dealers[A].closed
        assert context.sent(B) == []
        caller.peer_lost(peer(A), "went away")

    run(test, peer(A))


def test_only_calls_of_the_lost_peer_fail() -> None:
    """Calls to other peers continue; a call whose task is cancelled at the same moment raises nothing else."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        lost = asyncio.ensure_future(caller.request(call(context, only=A)))
        cancelled = asyncio.ensure_future(caller.request(call(context, only=A)))
        other = asyncio.ensure_future(caller.request(call(context, only=B)))
        await wait_until_async(lambda: len(context.sent(A)) == 2 and len(context.sent(B)) == 1)
        assert (caller.awaits(A), caller.awaits(B), caller.awaits("c")) == (True, True, False)
        cancelled.cancel()
        caller.peer_lost(peer(A), "went away")
        with pytest.raises(PeerLost):
            await lost
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not caller.awaits(A)
        context.dealers[B].receive(Result("from b"), 3)
        assert await other == "from b"

    run(test, peer(A), peer(B))


@pytest.mark.parametrize("what", ["answer", "garbage", "close", "deadline"])
def test_cancelled_when_the_call_ends(what: str) -> None:
    """If a task is cancelled in the iteration in which its call ends otherwise, it is cancelled."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        task = asyncio.ensure_future(caller.request(call(context, left=250 * MS)))
        await wait_until_async(lambda: context.sent(A))
        if what == "deadline":
            asyncio.get_running_loop().call_at(0.0, task.cancel)  # the first of the timers that are due
            time.sleep(260 * MS)  # meanwhile the deadline passes, so that both come in one turn
        else:
            task.cancel()
        if what == "answer":
            context.dealers[A].receive(Result(1), 1)
        elif what == "garbage":
            context.dealers[A].receive(envelope.encode(Result(1), 1)[:10], 0)
        elif what == "close":
            caller.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test, peer(A))


def test_an_idempotent_call_is_repeated() -> None:
    """An idempotent call is sent to another peer when the first one is lost."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.replies[B] = lambda message: Result("from b")
        task = asyncio.ensure_future(caller.request(call(context, idempotent=True)))
        await wait_until_async(lambda: context.sent(A))
        context.snapshot = snapshot(peer(B))
        caller.peer_lost(peer(A), "went away")
        assert await task == "from b"

    run(test, peer(A))


def test_an_unsent_call_moves_to_another_peer() -> None:
    """If the connection breaks before the frame is sent, another peer is asked; without one, the error says why."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.connected = False
        context.replies[B] = lambda message: Result("from b")
        first = asyncio.ensure_future(caller.request(call(context)))
        second = asyncio.ensure_future(caller.request(call(context, only=A)))
        await wait_until_async(lambda: A in context.dealers and len(context.dealers[A].waiting) == 2)
        context.connected = True
        context.snapshot = snapshot(peer(B))
        caller.peer_lost(peer(A), "went away")
        assert await first == "from b"
        with pytest.raises(PeerUnreachable, match=r"went away before auth\.check was sent"):
            await second

    run(test, peer(A))


def test_closing_fails_open_calls() -> None:
    """Callers of a closed bus are not left waiting, and nothing is sent any more."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        task = asyncio.ensure_future(caller.request(call(context)))
        await wait_until_async(lambda: context.sent(A))
        caller.close()
        with pytest.raises(LightbusShutdownInProgress, match=r"closed before auth\.check was answered"):
            await task
        with pytest.raises(LightbusShutdownInProgress, match=r"closed before auth\.check was sent"):
            await caller.request(call(context))
        assert context.dealers[A].closed == "closed"
        caller._expire()  # the timer for deadlines may be due once more

    run(test, peer(A))


def test_the_sockets_of_a_closed_loop_are_abandoned() -> None:
    """After its loop has ended, a channel only releases its sockets."""
    context = FakeRequestContext(peer(A))

    async def main() -> Caller:
        context.replies[A] = lambda message: Result(1)
        caller = Caller(context)
        await caller.request(call(context))
        return caller

    asyncio.run(main()).abandon()
    assert context.dealers[A].closed == "abandoned"


def test_a_cancelled_frame_is_never_sent_by_a_real_socket(tmp_path: Path) -> None:
    """A peer that starts after the caller has given up only gets new requests."""

    async def main() -> None:
        transport = ZmqTransport(HostSecurity(places=Places.only(tmp_path)))
        endpoint = f"ipc://{tmp_path}/rpc"
        context = FakeRequestContext(peer(A, endpoint=endpoint))
        context.transport = transport
        caller = Caller(context)
        arrived: list[AnyMessage] = []
        with pytest.raises(PeerUnreachable):
            await caller.request(call(context, left=20 * MS, kwargs={"user": "given up"}))
        router = transport.router(lambda routing_id, frame: arrived.append(envelope.decode(frame)[1]))
        router.bind(endpoint)
        with pytest.raises(LightbusTimeout):
            await caller.request(call(context, left=1.0, kwargs={"user": "asked now"}))
        assert [m.kwargs["user"] for m in arrived if isinstance(m, Request)] == ["asked now"]
        caller.close()
        router.close()
        transport.close()

    asyncio.run(main())


# Who is asked


def test_a_call_to_one_instance() -> None:
    """A call to one instance is sent to no other, and needs no look-up; if that instance is not up, it fails."""

    async def test(context: FakeRequestContext, caller: Caller) -> None:
        context.wanted.clear()
        context.replies[B] = lambda message: Result("from b")
        assert await caller.request(call(context, only=B)) == "from b"
        for gone in ("f" * 16, A):
            with pytest.raises(PeerUnreachable, match=f"meant for the instance {gone}, and no such peer is up"):
                await caller.request(call(context, only=gone))
        context.dealers[B]._reply = lambda message: refusal()
        with pytest.raises(PeerBusy, match="it is full"):
            await caller.request(call(context, only=B))
        assert context.resolved == []

    run(test, peer(A, PeerState.SUSPECT), peer(B))
