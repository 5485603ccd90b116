"""Stage ``lock_code``: writes ``code.lock.json``. It runs at every ``dvc repro``, and stages whose code has changed run again."""

from __future__ import annotations

from tasks.locking import code_lock


def lock_code() -> None:
    code_lock.lock_code()
