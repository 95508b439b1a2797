"""`python elsewhere.py run ...` is `lightbus run ...` on what seems to be another host: its name, its clock."""

from __future__ import annotations

import os
import socket
import time

ahead, host = float(os.environ.get("AHEAD", "0")), os.environ.get("HOST", "")
real_time = time.time
time.time = lambda: real_time() + ahead
if host:
    socket.gethostname = lambda: host

from lightbus.cli import main  # noqa: E402 - the clock goes first
from lightbus.events.publishing import journal_maintenance  # noqa: E402

journal_maintenance.TRIM_EVERY = 0.1
main(prog_name="lightbus")
