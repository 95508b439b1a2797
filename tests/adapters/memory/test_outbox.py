"""The outbox in memory. The contract of all outboxes is in tests/ports/test_outbox.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from lightbus.adapters.memory.outbox import MemoryOutbox

THREADS, EACH = 8, 200


def test_threads_share_the_outbox() -> None:
    """Many add events while another removes them: each is removed once, and those of one thread in order."""
    outbox = MemoryOutbox()
    taken: list[str] = []

    def put(thread: int) -> None:
        for number in range(EACH):
            outbox.put_all(api="auth", event="seen", rows=[(f"{thread}-{number:03}", None, b"")])

    with ThreadPoolExecutor(THREADS) as threads:
        putting = [threads.submit(put, thread) for thread in range(THREADS)]
        while not all(each.done() for each in putting) or outbox.counts():  # in this order
            ids = [each.id for each in outbox.waiting(limit=7)]
            outbox.delivered(ids)
            taken += ids
    assert len(taken) == len(set(taken)) == THREADS * EACH
    for thread in range(THREADS):
        own = [id for id in taken if id.startswith(f"{thread}-")]
        assert own == sorted(own)


def test_path_names_the_outbox() -> None:
    """Errors say where events wait."""
    assert f"in {MemoryOutbox().path}" == "in memory"


def test_latest_refusal_is_reported() -> None:
    """Of several events of a name, the error of the latest refusal."""
    outbox = MemoryOutbox()
    outbox.put_all(api="auth", event="seen", rows=[("a", None, b""), ("b", None, b"")])
    outbox.refuse([("b", "1", "first")])
    outbox.refuse([("a", "1", "second")])
    assert [(each.number, each.error) for each in outbox.refused()] == [(2, "second")]
