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


HEAPS = """
import sys, threading
from pathlib import Path
from lightbus.adapters.host.allocator import share_heaps

def work(begun, ended):
    kept = [bytes(600) for _ in range(1000)]  # more than Python's own allocator takes
    begun.wait()
    ended.wait()

def heaps():
    # glibc reserves 64 MiB of addresses for each heap but the first, of which most are not to be used yet.
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(1 for line in lines if " ---p " in line and size(line) > 2**25)

def size(line):
    first, last = line.split()[0].split("-")
    return int(last, 16) - int(first, 16)

if sys.argv[1] == "shared":
    assert share_heaps()
before, begun, ended = heaps(), threading.Barrier(9), threading.Event()
threads = [threading.Thread(target=work, args=(begun, ended)) for _ in range(8)]
for thread in threads:
    thread.start()
begun.wait()
print(heaps() - before)
ended.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_threads_share_heaps() -> None:
    """Eight threads add one heap, and more by default."""
    shared, own = (
        int(subprocess.run([sys.executable, "-c", HEAPS, mode], capture_output=True, text=True, check=True).stdout)
        for mode in ("shared", "default")
    )
    assert shared <= 1 < own


FREED = """
import sys
from pathlib import Path
from lightbus.adapters.host.allocator import release_freed_memory

def resident():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])

made = [bytes(1500) for _ in range(40_000)]  # more than Python's own allocator takes
kept = made[::1000]  # so that the heap has no end that is free
del made
before = resident()
assert release_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_freed_memory_is_returned_to_the_kernel() -> None:
    """Also memory between blocks still in use: most of 60 MB, as the kernel reports it."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40_000
