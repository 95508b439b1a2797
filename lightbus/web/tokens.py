"""Tokens, by which a program shows that it may ask."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from ..exceptions import InvalidConfiguration

__all__ = ["LEAST_TOKEN", "check_token", "is_same", "new_token", "read_secret_file", "read_token"]

LEAST_TOKEN = 16
"""Characters that a token has at least: it must not be guessed."""


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def is_same(given: str, token: str) -> bool:
    """Return whether a token is the one, in a time that does not tell how far it is."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode())


def read_token(path: Path) -> str:
    """Return the token that a file holds. Raises InvalidConfiguration where it holds none."""
    token = read_secret_file(path).strip()
    check_token(token, f"The token file {path} holds no token")
    return token


def read_secret_file(path: Path) -> str:
    """Return the text of a file that is its owner's alone. Raises InvalidConfiguration where it is not."""
    try:
        text = path.read_text("utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"The token file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise InvalidConfiguration(f"Others may read the token file {path}. Keep it to yourself: chmod 600 {path}")
    return text


def check_token(token: str, problem: str) -> None:
    """Raise InvalidConfiguration, which begins with the problem, where a text is no token."""
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidConfiguration(
            f"{problem}: it takes {LEAST_TOKEN} or more ASCII characters without spaces. "
            'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(24))"'
        )
