"""Addresses of a team's servers, without the passwords that some people write into them.

An address is printed, stored in records and linked in reports. So a password in it is moved to the variable that is made for it, before anything reads the
address. Child processes get both from the environment.
"""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit, urlunsplit

from redistill.errors import ConfigError

MLFLOW = "MLFLOW_TRACKING_URI"
MLFLOW_USER, MLFLOW_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
PREFECT = "PREFECT_API_URL"
PREFECT_AUTH = "PREFECT_API_AUTH_STRING"


def move_credentials() -> None:
    """Move user and password from the addresses in the environment to variables of their own, unless those are set already.

    Raises:
        ConfigError: an address cannot be read.
    """
    for name in (MLFLOW, PREFECT):
        address = os.environ.get(name, "")
        if not address.startswith(("http://", "https://")):
            continue
        user, password, os.environ[name] = _split(name, address)
        if user is None:
            continue
        if name == MLFLOW:
            os.environ.setdefault(MLFLOW_USER, user)
            os.environ.setdefault(MLFLOW_PASSWORD, password)
        else:
            os.environ.setdefault(PREFECT_AUTH, f"{user}:{password}")


def _split(name: str, address: str) -> tuple[str | None, str, str]:
    """User, password, and the address without them."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises if it is no number
    except ValueError as error:
        raise ConfigError(f"{name}={address} is not an address ({error}); write it as http://HOST:PORT") from None
    if not parts.hostname:
        raise ConfigError(f"{name}={address} names no host; write it as http://HOST:PORT")
    if "@" not in parts.netloc:
        return None, "", address
    place = parts.netloc.rpartition("@")[2]
    return unquote(parts.username or ""), unquote(parts.password or ""), urlunsplit(parts._replace(netloc=place))
