"""
Wait until the APIs named in the arguments are known; print the seconds it took from `create()` on, and how many of
them this process did nothing but wait, while nobody waited for a processor.
"""

from __future__ import annotations

import sys
import time

import lightbus
from helpers.stopwatch import Stopwatch

watch, worked = Stopwatch(), time.process_time()
bus = lightbus.create(service_name="newcomer")
bus.client.wait_for_apis(*sys.argv[1:])
waited = watch.seconds - (time.process_time() - worked)
print(f"{watch.elapsed:.3f} {waited:.3f}")
bus.client.close()
