"""The process that writes the traffic log: it reads rows from its standard input, replaces personal data and secrets, and writes shards.

It is a process of its own, so that no request waits while a text is searched: in a thread, each search would hold the interpreter's lock. Text reaches it
through a pipe, and the disk only after the replacement. It ends when its input does, so the router's rows are written also if the router is killed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Column, Message
from redistill.serving.traffic.open_shard import OpenShard
from redistill.serving.traffic.scrub import scrubbed_row

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where and when shards are written; ``forgotten`` is the file of tombstones."""

    folder: str
    forgotten: str
    rows: int
    seconds: float

    def as_argument(self) -> str:
        return json.dumps(asdict(self))


def main(target: Target) -> None:
    """Write until the input ends."""
    # A terminal and a service manager send their signals to all processes of the router; what is in memory is written when the router closes the pipe.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    # Only the owner may read traffic.
    os.umask(0o077)
    with suppress(OSError):
        os.nice(10)
    with suppress(OSError):
        Path(target.folder).chmod(0o700)
    shard = OpenShard(Path(target.folder), Path(target.forgotten), target.rows, target.seconds)
    for line in _lines(sys.stdin.fileno(), shard):
        if line is not None:
            _add(shard, line)
        elif shard.due_in_s() == 0.0:
            shard.write()
        _report(shard)
    shard.write()
    shard.give_up()
    _report(shard)


def _lines(source: int, shard: OpenShard) -> Iterator[bytes | None]:
    """Lines of the input, and None where there is none before the shard must be written."""
    rest = b""
    while True:
        if shard.due_in_s() == 0.0 or not select.select([source], [], [], shard.due_in_s())[0]:
            yield None
            continue
        chunk = os.read(source, _CHUNK_BYTES)
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _add(shard: OpenShard, line: bytes) -> None:
    try:
        shard.add(scrubbed_row(_row(json.loads(line))))
    except Exception as error:
        # Without the message: it may have text of the row.
        shard.lost += 1
        print(f"warning: a request could not be logged ({type(error).__name__})", file=sys.stderr, flush=True)


def _row(tree: dict[str, Any]) -> LoggedRequest:
    messages = tuple(Message(**message) for message in tree.pop("messages"))
    columns = tuple(Column(**column) for column in tree.pop("columns"))
    return LoggedRequest(messages=messages, columns=columns, **tree)


def _report(shard: OpenShard) -> None:
    """Say to the router what was written and lost so far, once for each change."""
    if (report := shard.changed_report()) is not None:
        # A router that was killed reads nothing any more.
        with suppress(OSError):
            os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main(Target(**json.loads(sys.argv[1])))
