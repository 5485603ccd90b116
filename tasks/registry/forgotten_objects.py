"""Files that are gone or changed because a person had a prompt removed: the tombstones list them, each signed by a key of this project."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from redistill.data.forgotten import Tombstone, read_tombstones
from redistill.errors import RedistillError
from redistill.provenance import keys
from tasks.paths import FORGOTTEN, STATE


def signed(digest: str, reason: str, objects: frozenset[str]) -> Tombstone:
    """A new tombstone; without a signature where the signing key is not here."""
    stone = Tombstone(digest, dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), reason, tuple(sorted(objects)))
    try:
        return replace(stone, signature=keys.sign_text(stone.text, keys.signing_key(STATE)))
    except RedistillError as error:
        print(f"the tombstone is not signed, so `redistill lineage` will call the removed files missing: {error}", flush=True)
        return stone


def removed_objects() -> dict[str, str]:
    """DVC's digests of such files, and when that was. Lists that no key of this project signed do not count.

    Raises:
        DataError: the file of tombstones is damaged.
    """
    stones = [stone for stone in read_tombstones(FORGOTTEN) if stone.signature]
    if not stones:
        return {}
    try:
        trusted = keys.public_keys(STATE)
    except RedistillError:
        return {}
    return {md5: stone.at for stone in stones if keys.text_is_signed(stone.text, stone.signature, trusted) for md5 in stone.objects}
