"""What a models' server says where it does not complete: a failure of the server, or a request that it refuses."""

from __future__ import annotations

from redistill.serving.router.http_reply import Reply, TooLargeError
from redistill.serving.router.types import UpstreamError

_MOST_BYTES = 32 << 20
"""The largest reply that is held. A completion with the log-probabilities of 20 tokens at each of 4,000 positions has about 6 MB."""
_BUSY = (408, 429)
_OURS = (401, 402, 403, 404)
"""Statuses that say something about the router's own key, address or model name, and nothing about the caller's request."""
_TRIPS_FROM = 500


def unwanted(reply: Reply, body: bytes) -> UpstreamError | None:
    """The failure of a server that says itself that it failed, or that has too much to do; None for another status."""
    status = reply.status
    if 400 <= status < _TRIPS_FROM and status not in (*_BUSY, *_OURS):
        return None
    kind = "busy" if status in _BUSY else "redirect" if 300 <= status < 400 else "setup" if status in _OURS else "status"
    after = reply.header("Retry-After")
    # What a server says of a wrong key may quote a part of it.
    reason = "" if status in (401, 403) else f": {start_of(body)}"
    return UpstreamError(kind, f"status {status}{reason}", status=status, body=body, retry_after=after)


def refused(status: int, body: bytes) -> UpstreamError:
    """The server works, and does not want this request."""
    return UpstreamError("refused", f"status {status}: {start_of(body)}", trips=False, status=status, body=body)


async def bounded(reply: Reply) -> bytes:
    """The whole body.

    Raises:
        UpstreamError: it is too large.
    """
    try:
        return await reply.body(_MOST_BYTES)
    except TooLargeError:
        raise UpstreamError("malformed", f"the reply is larger than {_MOST_BYTES >> 20} MB") from None


def start_of(text: bytes) -> str:
    return " ".join(text[:2000].decode("utf-8", "replace").split())[:200]
