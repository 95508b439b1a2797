"""The limit of descriptors, and how many are left."""

from __future__ import annotations

import os
import resource
import sys

import pytest

from helpers import Processes
from lightbus.adapters.host.descriptors import connection_limit, descriptors_left

RAISE = """
import resource
from lightbus.adapters.host.descriptors import descriptor_limit, raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
assert raise_descriptor_limit() == (100, descriptor_limit())
assert descriptor_limit() > 100
assert raise_descriptor_limit() == (descriptor_limit(), descriptor_limit())
"""


@pytest.mark.parametrize(("limit", "expected"), [(1024, 768), (256, 128), (sys.maxsize, sys.maxsize)])
def test_connection_limit_leaves_descriptors(limit: int, expected: int) -> None:
    """For the rest of the process."""
    assert connection_limit(limit) == expected


def test_soft_limit_is_raised(processes: Processes) -> None:
    """To the hard limit."""
    raised = processes.python("-c", RAISE)
    assert raised.wait() == 0, raised.report()


def test_descriptors_left_counts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each used descriptor is one less, down to the reserved ones."""
    limit = 64 + max(map(int, os.listdir("/proc/self/fd")))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    reader, writer = os.pipe()
    taken = [reader, writer]
    try:
        before = descriptors_left()
        assert 0 < before <= 64
        taken += [os.dup(reader) for _ in range(10)]
        assert descriptors_left() == before - 10
        taken += [os.dup(reader) for _ in range(54)]
        assert descriptors_left() == 0
    finally:
        for each in taken:
            os.close(each)
