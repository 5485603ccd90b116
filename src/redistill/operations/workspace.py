"""Names a project on servers that it shares with other projects.

The data set's name is what people see: deployments, events, artifact keys and tags carry it. Two folders may use the same name, for example a copy
of a project. So the folder and its machine are part of the identity, and a runner refuses the runs of another folder. Clones that share a store
(``REDISTILL_SHARED_STORE``) are one project: the store is their identity, and each of them may take the runs of the others.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from redistill.io.shared_store import named_address

TAG = "redistill"
_NAME, _WORKSPACE = "data:", "workspace:"


@dataclass(frozen=True, slots=True)
class Workspace:
    """One project folder on one machine. ``shared`` is the address of the store that it shares with other clones; empty if there is none."""

    data_name: str
    folder: Path
    host: str
    shared: str = ""

    @classmethod
    def here(cls, data_name: str) -> Workspace:
        return cls(data_name, Path.cwd().resolve(), socket.gethostname(), named_address())

    @property
    def id(self) -> str:
        """Twelve hex digits that no other folder has, but all clones that share a store."""
        place = f"{self.shared}\0{self.data_name}" if self.shared else f"{self.host}\0{self.folder}"
        return hashlib.sha256(place.encode()).hexdigest()[:12]

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"the clones that share {self.shared}" if self.shared else str(self.folder)

    @property
    def pool(self) -> str:
        """The work pool whose runs the runner of this folder takes. Two names can have the same key, so the folder's id is in it."""
        return f"redistill-{self.key()}-{self.id}"

    @property
    def tags(self) -> list[str]:
        """The tags of its deployments, and so of their runs."""
        return [TAG, _NAME + self.data_name, _WORKSPACE + self.id]

    def deployment(self, kind: str) -> str:
        """``bank-triage-nightly`` or, for the other flows, ``bank-triage``."""
        return f"{self.data_name}-{kind}" if kind else self.data_name

    def key(self, kind: str = "") -> str:
        """An artifact key. Prefect allows lower-case letters, digits and dashes."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.data_name}-{kind}".lower()).strip("-")

    def owns(self, tags: list[str]) -> bool:
        """Whether a run with these tags may run here. A run without a workspace, such as one started by hand, may run anywhere."""
        named = [tag for tag in tags if tag.startswith(_WORKSPACE)]
        return not named or _WORKSPACE + self.id in named


def data_name_of(tags: list[str]) -> str | None:
    """The data set's name in the tags of a deployment or run."""
    return next((tag.removeprefix(_NAME) for tag in tags if tag.startswith(_NAME)), None)


def workspace_of(tags: list[str]) -> str | None:
    """The id in the tags of a deployment or run."""
    return next((tag.removeprefix(_WORKSPACE) for tag in tags if tag.startswith(_WORKSPACE)), None)
