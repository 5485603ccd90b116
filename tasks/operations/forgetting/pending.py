"""What a removal is about, in a private file until nothing is left of it: an interrupted removal has deleted the rows that its ids and texts came from.

The file holds what the person wants to be rid of. So only its owner can read it, and it goes with the last problem.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from redistill.errors import DataError
from redistill.io.atomic import replacing
from redistill.io.digests import canonical_digest
from redistill.operations.traces import Traces
from tasks.operations.forgetting.subject import Subject
from tasks.paths import STATE

PENDING = STATE / "forgotten" / "pending"


@dataclass(frozen=True, slots=True)
class Removal:
    """Prompts that a person wants removed, and why."""

    subject: Subject
    reason: str

    @property
    def file(self) -> Path:
        return PENDING / f"{canonical_digest(sorted(self.subject.traces.ids))[:32]}.json"


def unfinished() -> list[Removal]:
    """The removals that were interrupted, or that a problem is left of.

    Raises:
        DataError: a file is damaged.
    """
    removals = []
    for file in sorted(PENDING.glob("[!.]*.json")):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            traces = Traces(frozenset(tree["ids"]), tuple(tree["texts"]))
            removals.append(Removal(Subject(traces, tuple(tree["sources"]), tuple(tree["notes"]), tuple(tree["names"])), tree["reason"]))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(
                f"{file} is damaged ({type(error).__name__}), so nobody knows what an interrupted `redistill forget` had left; delete the file, then run "
                "`redistill forget` with the id of the prompt again"
            ) from None
    return removals


def begin(removal: Removal) -> None:
    """Write down what will be removed, before anything is.

    Raises:
        DataError: the disk refuses the write.
    """
    _remove_scratch()
    subject = asdict(removal.subject)
    traces = subject.pop("traces")
    tree = {**subject, "ids": sorted(traces["ids"]), "texts": list(traces["texts"]), "reason": removal.reason}
    with replacing(removal.file) as temporary:
        removal.file.parent.chmod(0o700)
        # Nobody else may read it, not for a moment.
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            handle.write(json.dumps(tree))


def end(removal: Removal) -> None:
    """Nothing is left of it: remove the file."""
    _remove_scratch()
    removal.file.unlink(missing_ok=True)


def _remove_scratch() -> None:
    """What a command left that was killed while it wrote. Only one command works at a time."""
    for left in PENDING.glob(".*.tmp"):
        left.unlink(missing_ok=True)
