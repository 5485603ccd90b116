"""How long a models' server may take for the next step of a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from redistill.serving.router.http_client import UnreachableError
from redistill.serving.router.http_reply import BrokenError
from redistill.serving.router.refusals import start_of
from redistill.serving.router.types import UpstreamError

_T = TypeVar("_T")


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time until which a server must answer, and the error if it does not. Time that the caller takes does not count."""

    at: float
    kind: str
    detail: str
    trips: bool = True

    async def within(self, reading: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout_at(self.at):
                return await reading
        except UnreachableError as error:
            raise UpstreamError("unreachable", f"no connection ({error})") from None
        except TimeoutError:
            raise UpstreamError(self.kind, self.detail, trips=self.trips) from None
        except (BrokenError, OSError, ValueError) as error:
            raise UpstreamError("broke-off", f"the connection ended ({start_of(str(error).encode())})") from None
