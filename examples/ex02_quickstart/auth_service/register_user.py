"""Fires one event of the auth service and ends: a form handler or a cron job would look like this."""

from __future__ import annotations

from bus import bus  # the worker's own module: so this script knows the event, and is of the same service

if __name__ == "__main__":
    bus.auth.user_registered.fire(username="admin", email="admin@example.com")
    print("fired auth.user_registered for admin")
