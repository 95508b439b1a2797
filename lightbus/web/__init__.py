"""Shared by the dashboard and the gateway: a server with limits, host checks, tokens, bodies, live events."""
