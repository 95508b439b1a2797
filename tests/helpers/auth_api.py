"""An API to test with."""

from __future__ import annotations

import threading

from lightbus import Api, Event, Parameter

__all__ = ["AuthApi"]


class AuthApi(Api):
    user_registered = Event(["username", Parameter("age", int, default=0)])

    class Meta:
        name = "auth"

    def check_password(self, username: str, password: str) -> bool:
        return password == "secret"

    def whoami(self) -> str:
        return threading.current_thread().name
