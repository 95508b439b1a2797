"""Hooks, by the name of its module in Lightbus 1.x."""

from __future__ import annotations

from .service.hooks import HookRegistry

__all__ = ["HookRegistry"]
