"""The statistics and the log of answered calls."""

from __future__ import annotations

import time

import pytest

from helpers.jobs import job_of
from lightbus.rpc import call_log as module
from lightbus.rpc.call_log import CallLog
from lightbus.rpc.job import Job
from lightbus.rpc.statistics import OTHERS
from lightbus.wire import codec, envelope
from lightbus.wire.envelope import Result


class Services:
    """The services of callers; counts the look-ups."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    def __call__(self, instance: str) -> str | None:
        self.asked.append(instance)
        return self.known.get(instance)


def call(caller: str = "one", *, failed: bool = False, api: str = "work", procedure: str = "echo") -> Job:
    """Return an answered call."""
    job = job_of(procedure, api=api, caller=caller)
    job.failed = failed
    return job


def test_figures_of_each_procedure() -> None:
    """Calls and errors are counted for each procedure, and calls by the service of their callers."""
    log = CallLog(Services(one="shop", other="mail"))
    for job in (call(), call(failed=True), call("other"), call(procedure="fail")):
        log.note_usage(job)
    usage = log.usage["work", "echo"]
    assert (usage.calls, usage.errors, usage.callers) == (3, 1, {"shop": 2, "mail": 1})
    latency = usage.latency(1.0)
    assert latency is not None
    assert 0 <= latency < 60
    assert log.usage["work", "fail"].calls == 1


def test_internal_calls_are_not_counted() -> None:
    """Reading the statistics must not change them."""
    log = CallLog(Services())
    log.note_usage(call(api="internal.peer"))
    assert log.usage == {}


def test_a_service_is_looked_up_once() -> None:
    """The service of an unknown caller is looked up again: it may be known later."""
    services = Services(one="shop")
    log = CallLog(services)
    for name in ("one", "one", "new", "new"):
        log.note_usage(call(name))
    assert services.asked == ["one", "new", "new"]
    services.known["new"] = "late"
    log.note_usage(call("new"))
    assert log.usage["work", "echo"].callers == {"shop": 2, OTHERS: 2, "late": 1}


def test_remembered_services_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers come and go: above the limit, all are looked up again."""
    monkeypatch.setattr(module, "MAX_CALLERS", 2)
    services = Services(a="s", b="s", c="s")
    log = CallLog(services)
    for name in ("a", "b", "a", "c", "a"):
        log.note_usage(call(name))
    assert services.asked == ["a", "b", "c", "a"]


def test_calls_are_shown_to_watchers() -> None:
    """With the service of their caller, and their duration."""
    log = CallLog(Services(one="shop"))
    log.watch.take(time.monotonic(), "me", 0)
    job = call()
    log.show(job.request, job.arrived, codec.encode({"n": 7}), envelope.encode(Result("ok"), 1))
    [shown] = log.watch.take(time.monotonic(), "me", 0)["calls"]
    assert (shown["caller_service"], shown["kwargs"], shown["result"]) == ("shop", {"n": 7}, "ok")
    assert 0 <= shown["seconds"] < 60
