"""Asks a Prefect server that the environment names whether it takes us, before a flow starts: one line instead of a traceback of its client."""

from __future__ import annotations

import base64
import os
import re
from importlib.metadata import version

import httpx

from redistill.errors import ConfigError
from redistill.runtime.service_addresses import PREFECT_AUTH

_TIMEOUT_S = 30.0
_NAME = "PREFECT_API_URL"


def check_prefect(url: str) -> None:
    """Ask for the server's version, which it tells only to those who know its password.

    Raises:
        ConfigError: nothing answers there, it is not Prefect's API, it refuses the password, or it is older than the installed Prefect.
    """
    try:
        reply = httpx.get(f"{url.rstrip('/')}/admin/version", headers=authorization(), timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(
            f"{_NAME}={url}: nothing answers there ({_first_line(error)}); start the server, correct the address, or unset the variable: "
            "then each command starts a server of its own"
        ) from None
    if reply.status_code in (401, 403):
        raise ConfigError(
            f"Prefect's server at {url} refused the password; set {PREFECT_AUTH} to USER:PASSWORD, or correct it, or the address"
        )
    release = re.fullmatch(r'"(\d+)\.(\d+)\..*"', reply.text.strip()) if reply.status_code == 200 else None
    if release is None:
        raise ConfigError(
            f"{_NAME}={url} is not Prefect's API (it answers {reply.status_code} to a question for its version); the address ends in /api"
        )
    installed = version("prefect")
    if (int(release[1]), int(release[2])) < tuple(int(part) for part in installed.split(".")[:2]):
        raise ConfigError(
            f"Prefect's server at {url} is version {reply.json()}, older than the installed {installed}; back up its database, install {installed} "
            "there, run `prefect server database upgrade -y`, and start it again"
        )


def authorization() -> dict[str, str]:
    """The header that Prefect's own client sends: user and password, or else a key."""
    if named := os.environ.get(PREFECT_AUTH):
        return {"Authorization": f"Basic {base64.b64encode(named.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
