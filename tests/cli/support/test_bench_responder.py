"""The responder of `lightbus bench`."""

from __future__ import annotations

from lightbus.cli.support.bench_responder import BenchEventsApi, responder
from lightbus.config import load_config
from lightbus.testing import memory_bus


def test_it_answers_and_counts() -> None:
    """Calls come back; events are counted by run."""
    with memory_bus() as hub:
        other = responder(load_config(service_name="bench"), "bench")
        fires = hub.create(service_name="fires")
        fires.client.register_api(BenchEventsApi())
        hub.start(hub.attach(other), fires)
        assert fires.internal.bench.echo(payload=b"abc") == b"abc"
        for run in ("one", "one", "two"):
            fires.internal.bench_events.fired.fire(run=run, payload=b"")
        hub.wait_until_handled()
        counts = [fires.internal.bench.handled(run=run) for run in ("one", "two", "no")]
        assert counts == [2, 1, 0]
