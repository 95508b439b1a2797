"""Bearer tokens of clients."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from ..exceptions import InvalidConfiguration

__all__ = ["LEAST_TOKEN", "check_token", "is_same", "new_token", "read_secret_file", "read_token"]

LEAST_TOKEN = 16
"""The fewest characters of a token: it must not be guessable."""


def new_token() -> str:
    """Return a new random token."""
    return secrets.token_urlsafe(24)


def is_same(given: str, token: str) -> bool:
    """Return whether two tokens are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode())


def read_token(path: Path) -> str:
    """Return the token in a file. Raises InvalidConfiguration if the file has no valid token."""
    token = read_secret_file(path).strip()
    check_token(token, f"The token file {path} holds no token")
    return token


def read_secret_file(path: Path) -> str:
    """Return the text of a file. Raises InvalidConfiguration if anyone but its owner can access it."""
    try:
        text = path.read_text("utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"The token file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise InvalidConfiguration(f"Others may read the token file {path}. Keep it to yourself: chmod 600 {path}")
    return text


def check_token(token: str, problem: str) -> None:
    """Raise InvalidConfiguration, whose text begins with `problem`, if a text is not a valid token."""
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidConfiguration(
            f"{problem}: it takes {LEAST_TOKEN} or more ASCII characters without spaces. "
            'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(24))"'
        )
