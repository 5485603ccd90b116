"""Tombstones: prompts that a person had removed, and that must not come back. A line has a digest, a time and a reason, and no text.

The digest is of the prompt's id and not the id itself, so that no other file can be searched for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from redistill.errors import DataError
from redistill.io.atomic import replacing
from redistill.io.digests import text_digest


@dataclass(frozen=True, slots=True)
class Tombstone:
    """``digest`` is ``tombstone_digest`` of a prompt's id, ``at`` a time in UTC, as ISO 8601.

    ``objects`` are DVC's digests of files that had the prompt and were removed or changed; ``signature`` is of all other fields, empty where nobody could sign.
    """

    digest: str
    at: str
    reason: str
    objects: tuple[str, ...] = ()
    signature: str = ""

    @property
    def text(self) -> str:
        """What is signed."""
        return "\n".join(["tombstone", self.digest, self.at, self.reason, *self.objects])


def tombstone_digest(prompt_id: str) -> str:
    return text_digest(f"forgotten\n{prompt_id}")


def read_tombstones(file: Path) -> list[Tombstone]:
    """All tombstones, oldest first; none if there is no file.

    Raises:
        DataError: a line is none. Going on without it would bring a removed prompt back.
    """
    if not file.is_file():
        return []
    tombstones = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            tree = json.loads(line)
            tombstones.append(Tombstone(**{**tree, "objects": tuple(tree.get("objects", ()))}))
        except (ValueError, TypeError):
            raise DataError(f"{file} line {number} is no tombstone (digest, at, reason); restore the file from version control") from None
    return tombstones


def forgotten_digests(file: Path) -> frozenset[str]:
    """The digests of all tombstones.

    Raises:
        DataError: see ``read_tombstones``.
    """
    return frozenset(tombstone.digest for tombstone in read_tombstones(file))


def bury(file: Path, tombstone: Tombstone) -> None:
    """Add a tombstone, unless an earlier one says the same.

    Raises:
        DataError: the file is damaged, or the disk refuses the write.
    """
    before = read_tombstones(file)
    known = {each for earlier in before if earlier.digest == tombstone.digest for each in ("", *earlier.objects)}
    if known >= {"", *tombstone.objects}:
        return
    _write(file, [*before, tombstone])


def unite(file: Path, other: Path) -> list[Tombstone]:
    """Add to ``file`` the tombstones that only ``other`` has, and return those. No tombstone may be lost: its prompt would come back.

    Raises:
        DataError: a file is damaged, or the disk refuses the write.
    """
    before = read_tombstones(file)
    # Two tombstones of a prompt may list other files, so each line counts.
    missing = [stone for stone in read_tombstones(other) if stone not in before]
    if missing:
        _write(file, sorted([*before, *missing], key=lambda stone: stone.at))
    return missing


def _write(file: Path, tombstones: list[Tombstone]) -> None:
    with replacing(file) as temporary:
        temporary.write_text("".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in tombstones), encoding="utf-8")
