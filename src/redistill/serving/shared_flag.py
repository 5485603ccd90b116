"""The flag of all clones: revisions in the shared store, and beside them the newest one as ``route/flags.json``, which any static web server can serve.

A change is a new revision. ``create`` gives its number to one of two writers; the other reads again and changes what is there then, so no pin is lost. A cycle
writes the token of its lease into the flag, and a cycle with an older token is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.errors import DataError, StageError
from redistill.io import present_lease
from redistill.io.atomic import replacing
from redistill.io.shared_store import SharedStore, project_store

SERVED = "route/flags.json"
_REVISIONS = "route/revisions"
REVISION, TOKEN = "revision", "token"
_KEPT = 100


@dataclass(frozen=True, slots=True)
class SharedFlag:
    """``named`` is the name of the flag in the file."""

    store: SharedStore
    named: str

    @classmethod
    def here(cls, named: str) -> SharedFlag | None:
        """The flag of the project in this folder; None without a shared store."""
        store = project_store()
        return None if store is None else cls(store, named)

    def pull(self, file: Path) -> int:
        """Make a file the newest revision; returns its number, 0 if there is none yet. What is served is the newest one again, if a writer was killed.

        Raises:
            DataError: the store or the file cannot be used.
        """
        number = self._newest()
        if not number:
            return 0
        content = self.store.read(_name(number))
        if content is None:
            return self.pull(file)
        if not file.is_file() or file.read_bytes() != content:
            with replacing(file) as temporary:
                temporary.write_bytes(content)
        if self.store.read(SERVED) != content:
            self._serve()
        return number

    def publish(self, tree: dict[str, Any], after: int, before: Path) -> bytes | None:
        """Write a flag as the revision after number ``after``; None if another writer was faster. ``before`` is the file that it was made from.

        Raises:
            StageError: this process works under a lease that it has lost.
            DataError: the store cannot be used.
        """
        meta = tree["flags"][self.named]["metadata"]
        token = metadata(before.read_bytes(), self.named).get(TOKEN, 0) if before.is_file() else 0
        if (held := present_lease.present()) is not None:
            held.check()
            if held.token < token:
                raise StageError(
                    f"the flag was written by a cycle with token {token}, and this cycle has token {held.token}: another worker has the lease; nothing was written"
                )
            token = held.token
        meta |= {REVISION: after + 1, **({TOKEN: token} if token else {})}
        content = (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()
        if not self.store.create(_name(after + 1), content) or self._newest() != after + 1:
            return None
        self._serve()
        for number in range(max(1, after - _KEPT), after - _KEPT + 2):
            self.store.remove(_name(number))
        return content

    def _serve(self) -> None:
        """Two writers may come here at once, the older one last. So each looks again whether what it wrote is the newest."""
        while True:
            number = self._newest()
            content = self.store.read(_name(number))
            if content is None:
                raise DataError(f"{_name(number)} in the shared store {self.store.address} is gone; set the route again")
            self.store.write(SERVED, content)
            if self._newest() == number:
                return

    def _newest(self) -> int:
        numbers = [int(name.partition(".")[0]) for name in self.store.names(_REVISIONS) if name.partition(".")[0].isdigit()]
        return max(numbers, default=0)


def metadata(content: bytes, named: str) -> dict[str, int]:
    """Revision and token of a flag file; nothing where it cannot be read."""
    try:
        meta = json.loads(content)["flags"][named]["metadata"]
        return {key: int(meta[key]) for key in (REVISION, TOKEN) if key in meta}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _name(number: int) -> str:
    return f"{_REVISIONS}/{number:012d}.json"
