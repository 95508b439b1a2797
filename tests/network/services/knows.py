"""
Wait until the APIs named in the arguments are known; print the seconds it took from `create()` on, and how many of
them this process did nothing but wait.
"""

from __future__ import annotations

import sys
import time

import lightbus

started, worked = time.monotonic(), time.process_time()
bus = lightbus.create(service_name="newcomer")
bus.client.wait_for_apis(*sys.argv[1:])
seconds = time.monotonic() - started
print(f"{seconds:.3f} {seconds - (time.process_time() - worked):.3f}")
bus.client.close()
