"""This clone's completions and tombstones, and those of the shared store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from redistill.data.forgotten import forgotten_digests, read_tombstones, unite
from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.io.shared_store import SharedStore
from redistill.teacher import shared_completions
from redistill.teacher.completion_store import CompletionStore
from tasks.paths import FORGOTTEN, STATE

STORE = STATE / "store" / "completions.sqlite"
TOMBSTONES = "forgotten"


def unite_tombstones(store: SharedStore) -> int:
    """Give the store the tombstones that only this clone has, and take those that it has not; returns how many came.

    Raises:
        DataError: a tombstone cannot be read. Without it, a removed prompt would come back.
    """
    there = set(store.names(TOMBSTONES))
    known = dict[str, str]()
    for stone in read_tombstones(FORGOTTEN):
        name = canonical_digest(asdict(stone))
        known[name] = json.dumps(asdict(stone), ensure_ascii=False)
        if name not in there:
            store.write(f"{TOMBSTONES}/{name}", known[name].encode())
    missing = sorted(there - known.keys())
    if not missing:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, FORGOTTEN.name)
        lines = [(name, (store.read(f"{TOMBSTONES}/{name}") or b"").decode("utf-8", "replace")) for name in missing]
        for name, line in lines:
            if _digest_of(line) != name:
                raise DataError(
                    f"the tombstone {TOMBSTONES}/{name} in the shared store {store.address} is damaged; restore it from a backup of the store, or delete it if "
                    f"{FORGOTTEN} of another clone has it"
                )
        file.write_text("".join(f"{line}\n" for _, line in lines), encoding="utf-8")
        return len(unite(FORGOTTEN, file))


def _digest_of(line: str) -> str:
    try:
        return canonical_digest(json.loads(line))
    except ValueError:
        return ""


def pull(store: SharedStore, say: Callable[[str], None]) -> None:
    """Take the completions that this clone does not have, and remove those that another clone's tombstone names."""
    unite_tombstones(store)
    forgotten = forgotten_digests(FORGOTTEN)
    pulled = shared_completions.pull(STORE, store, forgotten, say)
    if (again := shared_completions.here_again(STORE, forgotten)) and (removed := _removed(again)):
        say(
            f"{removed} completions of prompts that were forgotten in another clone were removed; `redistill forget --resume` removes these prompts from the other files here"
        )
    if pulled.unclean:
        shared_completions.clean(STORE, store, pulled.unclean, forgotten)


def push(store: SharedStore) -> int:
    """Give the store the completions that it does not have. Segments never change, so this needs no lease."""
    unite_tombstones(store)
    return shared_completions.push(STORE, store, forgotten_digests(FORGOTTEN))


def forget(store: SharedStore, prompt_ids: Iterable[str]) -> int:
    """Remove the rows of these prompts from the segments; to be called while this clone still has them. Returns how many rows went.

    Raises:
        DataError: the store cannot be used, or a segment is damaged.
    """
    unite_tombstones(store)
    # What only other clones have pushed.
    shared_completions.pull(STORE, store, frozenset())
    names = shared_completions.segments_of(STORE, prompt_ids)
    return shared_completions.clean(STORE, store, names, forgotten_digests(FORGOTTEN)) if names else 0


def _removed(prompt_ids: list[str]) -> int:
    completions = CompletionStore(STORE)
    try:
        return completions.forget_prompts(prompt_ids)
    finally:
        completions.close()
