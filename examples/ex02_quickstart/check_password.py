"""Calls the auth service as if it were an object of this program."""

from __future__ import annotations

import lightbus

bus = lightbus.create()

if __name__ == "__main__":
    if bus.auth.check_password(username="admin", password="secret"):
        print("the password is right")
    else:
        print("the password is wrong")
