"""The flag from one address: asked every second, kept while the address is silent for a short time, and dropped after it, so that the teacher answers.

What comes is written to a file, and the router watches that file. Only a whole flag gets there, and none that is older than the one before.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from redistill.errors import DataError, one_line
from redistill.io.atomic import replacing
from redistill.serving.route_flag import FLAG, trusted_route
from redistill.serving.router.saying import say
from redistill.serving.shared_flag import REVISION, metadata

_POLL_S, _TIMEOUT_S = 1.0, 5.0
_MOST_BYTES = 1 << 20
_WHOLE_EVERY = 10
"""Every tenth question is asked without the tag of the last reply: some servers' tags are as coarse as a second."""
_KINDS = ("application/json", "application/octet-stream", "binary/octet-stream", "text/plain")
"""What static servers and object stores call a JSON file. A login page is none of these."""


class FlagOverHttp:
    """Keeps ``file`` as the flag at ``url``. After ``max_age_s`` without a usable reply, there is no file."""

    def __init__(self, url: str, file: Path, max_age_s: float) -> None:
        self._url, self._file, self._max_age_s = url, file, max_age_s
        # A flag of an earlier process may be of last month. Its number still says that an older one must not come.
        self._revision = metadata(file.read_bytes(), FLAG).get(REVISION, 0) if file.is_file() else 0
        file.unlink(missing_ok=True)
        self._tag, self._asked, self._problem = "", 0, ""
        self._good_s: float | None = None

    async def run(self) -> None:
        """Ask until cancelled."""
        async with ClientSession(timeout=ClientTimeout(total=_TIMEOUT_S)) as session:
            while True:
                await self._ask(session)
                await asyncio.sleep(_POLL_S)

    async def _ask(self, session: ClientSession) -> None:
        try:
            problem = await self._fetched(session)
        except (ClientError, TimeoutError, OSError) as error:
            problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        except DataError as error:
            problem = one_line(error)
        if not problem:
            if self._problem or self._good_s is None:
                say(f"the flag at {self._url} is read{' again' if self._problem else ''}")
            self._good_s, self._problem = time.monotonic(), ""
            return
        silent_s = 0.0 if self._good_s is None else time.monotonic() - self._good_s
        if self._file.is_file() and silent_s > self._max_age_s:
            self._file.unlink(missing_ok=True)
            # What is asked for next must come whole.
            self._tag = ""
            say(f"warning: the flag at {self._url} could not be used for {silent_s:.0f} s (serve.flag_max_age_s); the teacher answers now")
        if problem != self._problem:
            kept = f"the last one holds for {self._max_age_s:g} s" if self._file.is_file() else "the teacher answers"
            say(f"warning: the flag at {self._url} cannot be used ({problem[:200]}); {kept}")
        self._problem = problem

    async def _fetched(self, session: ClientSession) -> str:
        """Ask once; returns what is wrong with the reply, empty where the file is the flag now."""
        self._asked += 1
        tag = self._tag if self._asked % _WHOLE_EVERY else ""
        async with session.get(self._url, headers={"If-None-Match": tag} if tag else {}, allow_redirects=False) as reply:
            if reply.status == 304 and tag:
                return ""
            if reply.status != 200:
                return f"status {reply.status}"
            if reply.content_type not in _KINDS:
                return f"its content type is {reply.content_type}, not JSON"
            content = await reply.content.read(_MOST_BYTES + 1)
            while not reply.content.at_eof() and len(content) <= _MOST_BYTES:
                content += await reply.content.read(_MOST_BYTES)
            if len(content) > _MOST_BYTES:
                return f"it is larger than {_MOST_BYTES} bytes"
            problem = self._keep(content)
            self._tag = "" if problem else reply.headers.get("ETag", "")
            return problem

    def _keep(self, content: bytes) -> str:
        if self._file.is_file() and self._file.read_bytes() == content:
            return ""
        checked = self._file.with_name(f"{self._file.name}.new")
        with replacing(checked) as temporary:
            temporary.write_bytes(content)
        revision = metadata(content, FLAG).get(REVISION, 0)
        if trusted_route(checked) is None:
            problem = "it is no whole flag, or contradicts itself"
        elif revision < self._revision:
            problem = f"it is revision {revision}, older than revision {self._revision}, which was here before"
        else:
            checked.replace(self._file)
            self._revision = revision
            return ""
        checked.unlink()
        return problem
