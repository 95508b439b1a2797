"""A bus in a Django project: `INSTALLED_APPS = ["lightbus.contrib.django", ...]`, `LIGHTBUS_MODULE = "shop.bus"`."""

from __future__ import annotations

from .commit import fire_on_commit
from .plugin import DjangoPlugin
from .project import get_bus

__all__ = ["DjangoPlugin", "fire_on_commit", "get_bus"]
