"""A process that publishes nothing: hands off each event, and records it once `fire` has returned."""

from __future__ import annotations

import os
import sys
import time

import lightbus
from chaos import beset
from chaos.ledger import Ledger, go

beset.begin()
bus = lightbus.create(service_name="script")
PACE = 1 / float(os.environ["CHAOS_RATE"])
KEYS = 10

ledger = Ledger("fired")
while not go().exists():
    time.sleep(0.05)
number, due = 0, time.monotonic()
while True:
    number += 1
    key = f"{os.getpid()}-{number % KEYS}"
    try:
        message = bus.store.changed.fire(key=key, number=number)
    except lightbus.LightbusException as error:  # not accepted: nobody is owed anything
        print(f"{type(error).__name__}: {error}"[:300], file=sys.stderr, flush=True)
    else:
        ledger.note(message.id, key, message.native_id or "-")
    due = max(due + PACE, time.monotonic() - 1)
    time.sleep(max(0.0, due - time.monotonic()))
