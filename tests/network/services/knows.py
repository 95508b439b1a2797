"""Wait until the APIs named in the arguments are known; print the seconds it took from `create()` on."""

from __future__ import annotations

import sys
import time

import lightbus

started = time.monotonic()
bus = lightbus.create(service_name="newcomer")
bus.client.wait_for_apis(*sys.argv[1:])
print(f"{time.monotonic() - started:.3f}")
bus.client.close()
