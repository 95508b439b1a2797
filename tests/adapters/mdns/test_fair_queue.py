"""Each sender has a queue of its own, of a bounded size, and one item of each is taken in turn."""

from __future__ import annotations

from lightbus.adapters.mdns.fair_queue import MAX_SENDERS, MAX_WAITING_BYTES, FairQueue

A, B = ("10.0.0.1", True), ("10.0.0.2", True)


def taken(queue: FairQueue[str]) -> list[str]:
    """Return all that is taken until nothing is left."""
    found = []
    while queue:
        found.append(queue.take())
    return found


def test_senders_take_turns() -> None:
    """Who sends one waits for one of each other sender, however much these have sent; each one's order is kept."""
    queue = FairQueue[str]()
    for number in range(4):
        assert queue.put(A, 1, f"a{number}")
    assert queue.put(B, 1, "b0")
    assert queue.put(B, 1, "b1")

    assert taken(queue) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_questions_do_not_wait_for_answers() -> None:
    """A flood of answers from a host leaves its questions a queue of their own."""
    queue = FairQueue[str]()
    for number in range(3):
        queue.put(A, 1, f"answer {number}")
    queue.put((A[0], False), 1, "question")

    assert taken(queue).index("question") == 1


def test_what_waits_is_bounded() -> None:
    """What does not fit is refused, of that sender alone, until something of it was taken."""
    queue = FairQueue[str]()
    half = MAX_WAITING_BYTES // 2
    assert [queue.put(A, half, name) for name in "123"] == [True, True, False]
    assert queue.put(B, half, "of another")
    assert queue.take() == "1"
    assert queue.put(A, half, "4")

    assert taken(queue) == ["of another", "2", "4"]


def test_number_of_senders_is_bounded() -> None:
    """Forged addresses beyond it share one queue, and so one turn."""
    queue = FairQueue[str]()
    for number in range(MAX_SENDERS + 100):
        queue.put((f"10.1.0.{number}", True), MAX_WAITING_BYTES // 100, str(number))

    found = taken(queue)
    assert len(found) == MAX_SENDERS + 100
    assert not queue.put(("10.1.1.1", True), MAX_WAITING_BYTES + 1, "too large")


def test_others_share_one_bound() -> None:
    """Senders beyond the number are not remembered one by one."""
    queue = FairQueue[str]()
    for number in range(MAX_SENDERS):
        queue.put((f"10.1.0.{number}", True), 1, "known")
    half = MAX_WAITING_BYTES // 2
    assert [queue.put((f"10.2.0.{number}", True), half, "forged") for number in range(3)] == [True, True, False]


def test_shared_queue_that_is_full_takes_newer_items() -> None:
    """One sender that keeps the shared queue full does not keep all others out."""
    queue = FairQueue[str]()
    for number in range(MAX_SENDERS):
        queue.put((f"10.1.0.{number}", True), 1, "own")
    size = MAX_WAITING_BYTES // 8
    for _ in range(8):
        assert queue.put(("10.2.0.1", True), size, "flood")
    for _ in range(200):
        assert not queue.put(("10.2.0.2", True), size, "other")
    found = taken(queue)
    assert found.count("own") == MAX_SENDERS
    assert found.count("flood") + found.count("other") == 8
    assert "other" in found
