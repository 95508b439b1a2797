"""`OnError`, under the name of its module in Lightbus 1.x."""

from __future__ import annotations

from ..listener import OnError

__all__ = ["OnError"]
