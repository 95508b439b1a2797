"""The limit of descriptors, and how many are left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from helpers import Processes
from lightbus.adapters.host.descriptors import connection_limit

ELSEWHERE = """
import os, sys
from lightbus.adapters.host.descriptors import descriptors_left, has_free_descriptors
root = os.open("/", os.O_RDONLY)
os.chroot(sys.argv[1])
assert not os.path.exists(os.devnull)
assert descriptors_left() > 0
assert has_free_descriptors(8)
os.fchdir(root)
os.chroot(".")  # back, where coverage writes what it has measured
"""

RAISE = """
import resource
from lightbus.adapters.host.descriptors import descriptor_limit, raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
assert raise_descriptor_limit() == (100, descriptor_limit())
assert descriptor_limit() > 100
assert raise_descriptor_limit() == (descriptor_limit(), descriptor_limit())
"""

COUNT = """
import os, resource
from lightbus.adapters.host.descriptors import descriptors_left, has_free_descriptors

def take():
    held.append(os.dup(held[0]))

held = [os.open(os.devnull, os.O_RDONLY)]
highest = max(map(int, os.listdir("/proc/self/fd")))
while held[-1] < highest:
    take()  # the lowest free one is then above all that are used, also where a shell has left high ones open
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 65, hard))
before = descriptors_left()
assert 0 < before < 64, before
for used in range(before):
    assert descriptors_left() == before - used
    take()
reserved = 0
try:
    while True:
        assert descriptors_left() == 0
        was_free = has_free_descriptors()
        take()
        assert was_free
        reserved += 1
except OSError:
    assert (descriptors_left(), was_free) == (0, False)
assert before + reserved == 64, (before, reserved)
for each in held:
    os.close(each)  # coverage needs some at the end
"""


@pytest.mark.parametrize(("limit", "expected"), [(1024, 768), (256, 128), (sys.maxsize, sys.maxsize)])
def test_connection_limit_leaves_descriptors(limit: int, expected: int) -> None:
    """For the rest of the process."""
    assert connection_limit(limit) == expected


def test_soft_limit_is_raised(processes: Processes) -> None:
    """To the hard limit."""
    raised = processes.python("-c", RAISE)
    assert raised.wait() == 0, raised.report()


def test_descriptors_left_counts_down(processes: Processes) -> None:
    """Each used descriptor is one less, down to the reserved ones; none is left where all are used."""
    counted = processes.python("-c", COUNT)
    assert counted.wait() == 0, counted.report()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may change its root directory")
def test_descriptors_without_devices(processes: Processes, tmp_path: Path) -> None:
    """A process with a root directory of its own, which has no /dev, can count them, too."""
    counted = processes.python("-c", ELSEWHERE, str(tmp_path))
    assert counted.wait() == 0, counted.report()
