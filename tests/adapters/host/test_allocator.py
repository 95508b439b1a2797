from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from lightbus.adapters.host.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        [bytearray(1024 * 1024) for _ in range(6)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    assert keep_freed_memory()
faults()
print(faults())
"""


def _page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_buffers_are_used_again() -> None:
    """A process that keeps freed memory does not fault its buffers in again for each message."""
    assert _page_faults("kept") < 100 < _page_faults("default")
