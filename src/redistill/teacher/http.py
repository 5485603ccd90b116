"""One request to an endpoint and its reply, within limits: an endpoint may send anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
from pydantic import SecretStr

_MOST_BYTES = 32 << 20
"""The largest body that is read, after decompression. A completion with the log-probabilities of 20 tokens at each of 4,000 positions has about 6 MB."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)

    def quoted(self, key: SecretStr) -> str:
        """The start of the error message in the reply, or of the reply, without the key in any spelling."""
        # Not in the character set that the reply names: it may be anything.
        text = self.body.decode("utf-8", "replace")
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            text = str(self.json()["error"]["message"])
        for spelling in _spellings(key.get_secret_value()):
            text = text.replace(spelling, "[key]")
        return repr(" ".join(text.split())[:200])


async def send(client: httpx.AsyncClient, method: str, url: str, body: dict[str, Any] | None = None) -> Reply:
    """Send a request, with a body as JSON, and read the reply. The caller sets the deadline.

    Raises:
        ValueError: the reply is too large.
        httpx.RequestError: no reply.
    """
    async with client.stream(method, url, json=body) as response:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > _MOST_BYTES:
                raise ValueError(f"the reply is larger than {_MOST_BYTES >> 20} MB")
            parts.append(part)
        return Reply(response.status_code, response.headers, b"".join(parts))


def _spellings(key: str) -> list[str]:
    """A key as it may come back: plain, in base64, in a URL, in hex. The longest come first, because one may hold another."""
    if not key:
        return []
    raw = key.encode()
    coded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), base64.b64encode(b"Bearer " + raw).decode()}
    spelled = {key, quote(key, safe=""), quote_plus(key), raw.hex(), *coded, *(code.rstrip("=") for code in coded)}
    return sorted(spelled, key=lambda text: (-len(text), text))
