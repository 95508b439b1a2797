"""The schemas of APIs, by the name of its module in Lightbus 1.x."""

from __future__ import annotations

from .service.api import Parameter, WildcardParameter
from .service.schema import Schema

__all__ = ["Parameter", "Schema", "WildcardParameter"]
