"""The sockets under their earlier name, for programs that reach inside; the library itself uses `adapters.zmq`."""

from __future__ import annotations

from ..adapters.zmq.blocking_dealer import BlockingDealer
from ..adapters.zmq.bound_sockets import PublishingSocket as Publisher
from ..adapters.zmq.bound_sockets import Router
from ..adapters.zmq.connecting_sockets import Dealer, Subscriber

__all__ = ["BlockingDealer", "Dealer", "Publisher", "Router", "Subscriber"]
