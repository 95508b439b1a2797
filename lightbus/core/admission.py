"""
How many calls a worker executes at the same time, and how long others may wait. Facts and the time in, decisions out.

Two things are bounded. *Calls at the same time*: handlers that wait for something may be many, handlers that compute
are quicker one after another. Which they are shows in how long a call that was started waits until its handler has its
turn: where that is long, fewer are started, where it is not, more, up to `rpc_concurrency`. (The rule is that of TCP:
one more for each that went well while as many ran as may, half as many for one that did not; RFC 5681, RFC 7661.)

*Waiting*: a burst may wait until it is worked off. But where more comes in than goes out, waiting only makes all calls
slow, each by the whole queue: then a call that would wait longer than calls take is refused, and its caller asks
another worker. Neither a burst is that, since it ends, nor are callers that each call again when they are answered: no
more comes in of them than goes out. (After "controlled delay", ACM Queue 12(8), "Fail at Scale": what matters is not
that there is a queue, but that it does not get empty.)
"""

from __future__ import annotations

from .processor_use import ProcessorUse

__all__ = ["Admission"]

FIRST_LIMIT = 4
"""Calls at the same time before anything is known of them."""

TOLERATED_DELAY = 0.005
"""Seconds that a handler may wait for its turn in any case: a loop that is busy with short calls comes to that."""

LEAST_OF_SHORT = 32
"""Short calls at the same time in any case: to begin them one by one costs more than they do."""

PROBE_AFTER = 0.02
"""Seconds after which one more is tried where calls wait, though none has just gone well."""

LONGEST_HOLD = 0.3
"""Seconds after which handlers that were quicker one after another are tried side by side again; ten calls, if less."""

SHORT = 0.005
SHORT_WAIT = 0.1
"""Calls that take less than the first are not refused before they would wait for the second: nobody notices less."""

STANDING = 0.05
"""
Seconds for which there must have been a queue before anybody is refused; or twice what a call takes, if longer. What
came in during these is a burst, and counts for nothing: only what comes in on top of it says that it is too much.
"""

KNOWN_AFTER = 10
"""Calls after which it is known how long they take."""

_FALLS, _RISES = 0.2, 0.02
"""
How much of what a call took counts for how long calls take. Less where it was long: that may be due to the load, and
load is not to be a reason to take more.
"""


class Admission:
    """
    Decides which calls begin, wait or are refused. Only touched from the node's loop.

    Args:
        concurrency: how many calls may run at the same time at most.
        max_queue_time: seconds that a call may wait at most; None: half as long as calls take, where more comes in than
            goes out.

    Attributes:
        limit: how many calls may run at the same time as things are.
        seconds: how long calls take, about; 0 as long as nothing is known.

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
        """When it is to be looked whether the period has ended: not earlier, as each call asks twice."""
        self._arrivals = self._arrivals_before = 0
        self._departures = self._departures_before = 0

    # What happens

    def arrived(self, now: float) -> None:
        """Note that a call came in."""
        if now >= self._period_ends:
            self._turn_over(now)
        self._arrivals += 1

    def is_content_with(self, delay: float) -> bool:
        """Return whether such a delay changes nothing where no call waits. From any thread."""
        return delay <= self._tolerated

    def began(self, delay: float, running: int, now: float) -> bool:
        """Note how long a call that was started had to wait for its turn; return whether more may be started now."""
        if delay > self._tolerated:
            if now - delay < self._reduced_at:
                return False  # it was started before the latest reduction, and says nothing of that
            self._reduce(min(self.limit, running) // 2, now)
            return False
        if running < self.limit:
            return False  # that few go well says nothing of more
        if self.limit >= self._concurrency or self._is_held(now):
            return False
        self.limit += 1
        self._changed_at = now
        return True

    def finished(self, seconds: float, now: float, computed: float = 0.0) -> bool:
        """
        Note that a call is finished, how long it took from its beginning on, and computed in a thread of its own.

        Returns whether it is time to look at the processor time of this process.
        """
        if now >= self._period_ends:
            self._turn_over(now)
        self._processor.computed += computed
        self._departures += 1
        self._finished += 1
        weight = _FALLS if seconds < self.seconds or self._finished < KNOWN_AFTER else _RISES
        self.seconds = seconds if self._finished == 1 else self.seconds + weight * (seconds - self.seconds)
        self._tolerated = max(TOLERATED_DELAY, self.seconds / 2)
        return now >= self._processor.look_at

    def queue_is(self, length: int, now: float) -> None:
        """Note how many wait now."""
        if not length:
            self._queued_since = None
        elif self._queued_since is None:
            self._queued_since = now
            if not self._was_overloaded:
                self._count_from(now)  # what comes in at once with the first that wait is a burst

    def probe(self, now: float) -> bool:
        """Try more at the same time, where nothing was learned for a while; return whether to start them."""
        if self.limit >= self._concurrency or now - self._changed_at < PROBE_AFTER or self._is_held(now):
            return False
        self.limit = min(self._concurrency, self.limit + 1 + self.limit // 2)
        self._changed_at = now
        return True

    def look_at_cpu(self, cpu: float, now: float) -> None:
        """
        Have fewer at the same time, where handlers in threads only share a processor. Others' use of it is no reason.

        `cpu` are the seconds of processor time that this process has used so far.
        """
        self._processor.look(cpu, now, max(PROBE_AFTER, 2 * self.seconds))
        if self._processor.is_shared(now):
            self._reduce(self.limit // 2, now)

    def _reduce(self, limit: int, now: float) -> None:
        least = LEAST_OF_SHORT if self.seconds < SHORT else 1
        self.limit = max(min(least, self.limit), limit)
        self._reduced_at = self._changed_at = now

    # What follows from it

    def _is_held(self, now: float) -> bool:
        """Return whether so few calls run at the same time for a reason, which is not looked into again yet."""
        if self._processor.is_shared(now):
            return True
        return self.limit < FIRST_LIMIT and now - self._reduced_at < min(LONGEST_HOLD, 10 * self.seconds)

    @property
    def longest_wait(self) -> float:
        """How many seconds a call may wait."""
        if self._max_queue_time is not None:
            return self._max_queue_time
        return self.seconds / 2 if self.seconds >= SHORT else SHORT_WAIT

    def may_wait(self, ahead: int, left: float, now: float) -> bool:
        """Return whether a call may wait that has so many ahead of it, and so many seconds left."""
        if self._finished < KNOWN_AFTER:
            return True
        expected = (ahead + 1) * self.seconds / self.limit
        if expected > left:
            return False
        return expected <= self.longest_wait or not self._is_strict(now)

    def has_waited_too_long(self, seconds: float, now: float) -> bool:
        """Return whether a call that has waited for so long is not to be begun any more."""
        return seconds > self.longest_wait and self._is_strict(now)

    def _is_strict(self, now: float) -> bool:
        return self._max_queue_time is not None or self._is_overloaded(now)

    def _is_overloaded(self, now: float) -> bool:
        """Return whether there has been a queue for long while more calls arrive than end: no burst."""
        self._turn_over(now)
        grown = self._arrivals + self._arrivals_before - self._departures - self._departures_before
        if grown <= 0:
            self._was_overloaded = False
        elif grown > self.limit and self._queued_since is not None and now - self._queued_since >= self._period:
            self._was_overloaded = True  # and goes on to be, though the queue is short from now on
        return self._was_overloaded

    @property
    def _period(self) -> float:
        return max(SHORT_WAIT if self.seconds < SHORT else STANDING, 2 * self.seconds)

    def _turn_over(self, now: float) -> None:
        """Count this period and the one before it; of an older one nothing is known any more."""
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
        """Begin a period, the first of a queue, in which a burst may arrive."""
        self._period_began, self._is_first_period = now, True
        self._period_ends = now + self._period
        self._arrivals = self._arrivals_before = 0
        self._departures = self._departures_before = 0
