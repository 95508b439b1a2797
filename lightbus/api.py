"""What services declare, by the name of its module in Lightbus 1.x."""

from __future__ import annotations

from .service.api import Api, ApiMeta, ApiRegistry, Event, Parameter, WildcardParameter

__all__ = ["Api", "ApiMeta", "ApiOptions", "ApiRegistry", "Event", "Parameter", "Registry", "WildcardParameter"]

ApiOptions = ApiMeta
Registry = ApiRegistry
