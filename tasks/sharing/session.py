"""What a cycle takes from the shared store before it begins, and gives back. Without a shared store, nothing happens here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from redistill.errors import RedistillError, StageError, one_line
from redistill.io import lease, present_lease
from redistill.io.lease import Lease, Seen
from redistill.io.shared_store import SharedStore, shared_store
from redistill.operations.traces import Traces
from redistill.params import Params
from tasks.paths import SOURCES
from tasks.sharing import clone, completions, outputs, records, turn


def take_hints(params: Params, stop: Callable[[], None]) -> None:
    """Before the sources are locked: tombstones, and the lock of the sources, which says on which day chat templates were dated.

    ``stop`` ends the work of this process, and is called if another worker takes its place.
    """
    if (store := shared_store(params.data.name)) is None:
        return
    if (held := present_lease.present()) is not None:
        held.on_loss(stop)
    completions.unite_tombstones(store)
    if (head := records.newest(store)) is not None:
        clone.follow(store, head, clone.last_seen(store), (str(SOURCES),))


def pull(params: Params, say: Callable[[str], None]) -> None:
    """Refuse a clone that the store has left behind, then take locks, completions and outputs.

    Raises:
        ConfigError: this clone has other settings, code, data or locks than the last cycle, and they are not newer.
        DataError: the store cannot be used, or something in it is damaged.
    """
    if (store := shared_store(params.data.name)) is None:
        return
    head, seen = records.newest(store), clone.last_seen(store)
    if head is not None:
        clone.require_same(head, seen)
        if taken := clone.follow(store, head, seen):
            say(f"{', '.join(taken)} came from the shared store, as {head.by} left {'it' if len(taken) == 1 else 'them'}")
    completions.pull(store, say)
    outputs.pull(store, say)
    if head is not None:
        clone.remember(store, head)


def push(params: Params, run_id: str) -> None:
    """Give the store what this cycle made: completions, outputs, and last the record that names them. ``run_id`` is its MLflow run.

    Raises:
        StageError: the lease is lost; then the store's record stays as it is.
        DataError: the store cannot be used. What is missing there comes with the next cycle.
    """
    held = present_lease.present()
    if held is None or (store := shared_store(params.data.name)) is None:
        return
    completions.push(store)
    outputs.push(store)
    held.check()
    clone.remember(store, clone.publish(store, held.claim, run_id))


@contextlib.contextmanager
def alone(params: Params, work: str) -> Iterator[SharedStore | None]:
    """Keep cycles of all clones out while ``work`` is done; gives the shared store, or None where there is none.

    Raises:
        StageError: another clone's cycle is running.
    """
    store = shared_store(params.data.name)
    if store is None:
        yield None
        return
    clone.require_known(store)
    claim = Lease(store, turn.LEASE, lease.ttl_s())
    # A holder that was killed is replaced, so that no work waits for a machine that is gone.
    watched: list[Seen] = []

    def silent(seen: Seen) -> bool:
        watched.append(seen)
        return seen.ended or (seen.claim.token, seen.beat) == (watched[0].claim.token, watched[0].beat)

    held = claim.wait(silent, lambda before: {} if before is None else before.note)
    if held is None:
        raise StageError(
            f"a cycle is running in the clone of {watched[-1].claim.by}, and {work} does not run beside one; try again when it has ended"
        )
    with present_lease.holding(held):
        yield store


def forget(store: SharedStore, traces: Traces, objects: Iterable[str]) -> list[str]:
    """Remove prompts from the shared store, while this clone still has their completions; returns what could not be removed. ``objects`` are digests of DVC's objects that hold one."""
    try:
        completions.forget(store, traces.ids)
        outputs.remove(store, objects)
        held, head, seen = present_lease.present(), records.newest(store), clone.last_seen(store)
        if held is not None and head is not None:
            cleaned = clone.without(store, head, held.claim, traces)
            # A clone that has not seen the newest record must still see that it has not.
            if seen == head:
                clone.remember(store, cleaned)
        return []
    except RedistillError as error:
        return [f"the shared store may still have it: {one_line(error)}"]


def declare_newest(params: Params) -> bool:
    """From now on this clone is the newer one: its next cycle does not stop at the settings, code and locks of the others. False without a store or a record."""
    store = shared_store(params.data.name)
    head = None if store is None else records.newest(store)
    if store is None or head is None:
        return False
    clone.remember(store, head)
    return True
