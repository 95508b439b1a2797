"""The sockets under their earlier name, for programs that reach inside; the library itself uses `adapters.zmq`."""

from __future__ import annotations

from ..adapters.zmq.transport import BlockingDealer, Dealer, Publisher, Router, Subscriber

__all__ = ["BlockingDealer", "Dealer", "Publisher", "Router", "Subscriber"]
