"""The auth service: one procedure and one event."""

from __future__ import annotations

import lightbus

bus = lightbus.create()


class AuthApi(lightbus.Api):
    user_registered = lightbus.Event(parameters=["username", "email"])

    class Meta:
        name = "auth"

    def check_password(self, username: str, password: str) -> bool:
        return username == "admin" and password == "secret"


bus.client.register_api(AuthApi())
