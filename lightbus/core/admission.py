"""
How many calls a worker executes at the same time, and how long others may wait. Facts and the time in, decisions out.

Two things are bounded. *Concurrency*: handlers that wait for I/O may be many; handlers that compute are quicker one
after another. The delay between the start of a call and its handler's turn shows which kind they are: if it is long,
fewer are started, otherwise more, up to `rpc_concurrency`. (Additive increase, multiplicative decrease, as in TCP: one
more for each call without delay while the limit was reached, half as many after one with delay; RFC 5681, RFC 7661.)

*Waiting*: the calls of a burst may wait. But if more calls arrive than end, every call is delayed by the whole queue:
then a call that would wait longer than calls take is refused, and its caller tries another worker. A burst is no
overload, since it ends; nor are callers that call again after each answer, since no more of their calls arrive than
end. (After "controlled delay", ACM Queue 12(8), "Fail at Scale": overload is not a queue, but a queue that never
empties.)
"""

from __future__ import annotations

from .processor_use import ProcessorUse

__all__ = ["Admission"]

FIRST_LIMIT = 4
"""Concurrent calls at the start, before any measurement."""

TOLERATED_DELAY = 0.005
"""Seconds that a handler may always wait for its turn: usual on a loop that is busy with short calls."""

LEAST_OF_SHORT = 32
"""Concurrent short calls that are always allowed: starting them one by one would cost more than the calls."""

PROBE_AFTER = 0.02
"""Seconds after which the limit is raised while calls wait, even if none has ended without delay."""

LONGEST_HOLD = 0.3
"""Seconds after which a low limit is raised again as a test; the time of ten calls, if that is less."""

SHORT = 0.005
SHORT_WAIT = 0.1
"""Calls shorter than the first are only refused if they would wait longer than the second: less is not noticeable."""

STANDING_WAIT = 0.05
"""
Seconds for which a queue must have existed before a call is refused; or twice the time of a call, if longer. Calls
that arrive in this time are a burst, and not counted: only the growth of the queue after it shows an overload.
"""

KNOWN_AFTER = 10
"""Calls after which the average time is used."""

_WEIGHT_SHORTER, _WEIGHT_LONGER = 0.2, 0.02
"""
The weight of one call in the average time. Lower for a longer call: it may be long because of the load, and load must
not let more calls wait.
"""


class Admission:
    """
    Decides which calls start, wait or are refused. Only touched from the node's loop.

    Args:
        concurrency: the most calls that may run at the same time.
        max_queue_time: the most seconds that a call may wait; None: half the time of a call, while more arrive than
            end.

    Attributes:
        limit: how many calls may run at the same time now.
        seconds: the average time of a call; 0 before the first has ended.

    """

    def __init__(self, concurrency: int, max_queue_time: float | None = None) -> None:
        self.limit = min(FIRST_LIMIT, concurrency)
        self.seconds = 0.0
        self._concurrency = concurrency
        self._max_queue_time = max_queue_time
        self._finished = 0
        self._changed_at = 0.0
        self._processor = ProcessorUse()
        self._was_overloaded = False
        self._reduced_at = float("-inf")
        self._queued_since: float | None = None
        self._tolerated = TOLERATED_DELAY
        """Seconds that a handler may wait for its turn."""
        self._period_began, self._is_first_period = 0.0, False
        self._period_ends = 0.0
        """When to check whether the period has ended: not earlier, as each call asks twice."""
        self._arrivals = self._arrivals_before = 0
        self._departures = self._departures_before = 0

    # Facts

    def arrived(self, now: float) -> None:
        """Record that a call arrived."""
        if now >= self._period_ends:
            self._start_due_period(now)
        self._arrivals += 1

    def tolerates(self, delay: float) -> bool:
        """Return whether a delay is tolerated, and changes nothing while no call waits. Callable from any thread."""
        return delay <= self._tolerated

    def began(self, delay: float, running: int, now: float) -> bool:
        """Record how long a started call waited for its handler's turn; return whether more may be started now."""
        if delay > self._tolerated:
            if now - delay < self._reduced_at:
                return False  # it was started before the latest reduction: its delay is not of the new limit
            self._reduce(min(self.limit, running) // 2, now)
            return False
        if running < self.limit:
            return False  # the limit was not reached: this says nothing about a higher one
        if self.limit >= self._concurrency or self._is_held(now):
            return False
        self.limit += 1
        self._changed_at = now
        return True

    def finished(self, seconds: float, now: float, computed: float = 0.0) -> bool:
        """
        Record that a call ended, the seconds that it took, and those that it computed in a thread of its own.

        Return whether the processor time of this process is to be measured now.
        """
        if now >= self._period_ends:
            self._start_due_period(now)
        self._processor.computed += computed
        self._departures += 1
        self._finished += 1
        weight = _WEIGHT_SHORTER if seconds < self.seconds or self._finished < KNOWN_AFTER else _WEIGHT_LONGER
        self.seconds = seconds if self._finished == 1 else self.seconds + weight * (seconds - self.seconds)
        self._tolerated = max(TOLERATED_DELAY, self.seconds / 2)
        return now >= self._processor.look_at

    def queue_is(self, length: int, now: float) -> None:
        """Record how many calls wait now."""
        if not length:
            self._queued_since = None
        elif self._queued_since is None:
            self._queued_since = now
            if not self._was_overloaded:
                self._count_from(now)  # calls that arrive together with the first that waits are a burst

    def probe(self, now: float) -> bool:
        """Raise the limit as a test, if it has not changed for a while; return whether it was raised."""
        if self.limit >= self._concurrency or now - self._changed_at < PROBE_AFTER or self._is_held(now):
            return False
        self.limit = min(self._concurrency, self.limit + 1 + self.limit // 2)
        self._changed_at = now
        return True

    def look_at_cpu(self, cpu: float, now: float) -> None:
        """
        Lower the limit if handlers in threads only share a processor, but not for the load of other processes.

        `cpu`: the seconds of processor time that this process has used so far.
        """
        self._processor.look(cpu, now, max(PROBE_AFTER, 2 * self.seconds))
        if self._processor.is_shared(now):
            self._reduce(self.limit // 2, now)

    def _reduce(self, limit: int, now: float) -> None:
        least = LEAST_OF_SHORT if self.seconds < SHORT else 1
        self.limit = max(min(least, self.limit), limit)
        self._reduced_at = self._changed_at = now

    # Decisions

    def _is_held(self, now: float) -> bool:
        """Return whether the limit must stay: it was lowered, and the reason may still hold."""
        if self._processor.is_shared(now):
            return True
        return self.limit < FIRST_LIMIT and now - self._reduced_at < min(LONGEST_HOLD, 10 * self.seconds)

    @property
    def longest_wait(self) -> float:
        """The most seconds that a call may wait."""
        if self._max_queue_time is not None:
            return self._max_queue_time
        return self.seconds / 2 if self.seconds >= SHORT else SHORT_WAIT

    def may_wait(self, ahead: int, left: float, now: float) -> bool:
        """Return whether a call may wait, with `ahead` calls before it and `left` seconds until its deadline."""
        if self._finished < KNOWN_AFTER:
            return True
        expected = (ahead + 1) * self.seconds / self.limit
        if expected > left:
            return False
        return expected <= self.longest_wait or not self._may_refuse(now)

    def has_waited_too_long(self, seconds: float, now: float) -> bool:
        """Return whether a call that has waited for so many seconds is refused instead of started."""
        return seconds > self.longest_wait and self._may_refuse(now)

    def _may_refuse(self, now: float) -> bool:
        if self._max_queue_time is not None:
            return True
        return self._finished >= KNOWN_AFTER and self._is_overloaded(now)  # before, the longest wait is not known

    def _is_overloaded(self, now: float) -> bool:
        """Return whether a queue has existed for long while more calls arrive than end: more than a burst."""
        self._start_due_period(now)
        grown = self._arrivals + self._arrivals_before - self._departures - self._departures_before
        if grown <= 0:
            self._was_overloaded = False
        elif grown > self.limit and self._queued_since is not None and now - self._queued_since >= self._period:
            self._was_overloaded = True  # and stays so while refusals keep the queue short
        return self._was_overloaded

    @property
    def _period(self) -> float:
        return max(SHORT_WAIT if self.seconds < SHORT else STANDING_WAIT, 2 * self.seconds)

    def _start_due_period(self, now: float) -> None:
        """Start a new period if this one has ended, and keep its counts as those of the previous period."""
        past = now - self._period_began
        self._period_ends = self._period_began + self._period
        if past < self._period:
            return
        is_known = past < 2 * self._period and not self._is_first_period
        before = (self._arrivals, self._departures) if is_known else (0, 0)
        if past >= 2 * self._period:
            self._was_overloaded = False
        self._count_from(now)
        self._is_first_period = False
        self._arrivals_before, self._departures_before = before

    def _count_from(self, now: float) -> None:
        """Start the first period of a queue, in which a burst may arrive."""
        self._period_began, self._is_first_period = now, True
        self._period_ends = now + self._period
        self._arrivals = self._arrivals_before = 0
        self._departures = self._departures_before = 0
