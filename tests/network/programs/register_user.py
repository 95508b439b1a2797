"""A short script, as a cron job would run it: it imports the worker's own bus, fires one event, and ends."""

from __future__ import annotations

import sys

from stream import bus

bus.stream.ticked.fire(number=int(sys.argv[1]))
