"""Another service: offers nothing, and greets whoever registers at the auth service."""

from __future__ import annotations

import lightbus

bus = lightbus.create()


@bus.client.on_start()
def on_start() -> None:
    bus.auth.user_registered.listen(send_welcome)


def send_welcome(event_message: lightbus.EventMessage, username: str, email: str) -> None:
    print(f"welcome, {username}! (to {email})", flush=True)
