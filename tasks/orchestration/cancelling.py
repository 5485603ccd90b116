"""Ends a run that a person cancelled, also where its runner did not notice.

Prefect's runner hears of it by a stream of events. After a restart of the server the stream may be silent: the run would go on to its end in state
Cancelling. So the run itself looks at its state.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.states import Cancelled

_EVERY_S = 1.0
_PATIENCE_S = 1.5
"""The runner, where it notices, needs no longer than this. Together with the stages' end, a cancelled run is gone within five seconds."""


@contextlib.contextmanager
def ends_when_cancelled(flow_run_id: UUID) -> Iterator[None]:
    """While the block runs, look at the state of its flow run every second."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(flow_run_id, over), name="cancelling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A request that is under way must not meet the end of the process.
        thread.join(_EVERY_S + 1.0)


def _watch(flow_run_id: UUID, over: threading.Event) -> None:
    since: float | None = None
    while not over.is_set():
        # A client reads the certificates of the machine, so one is kept until the server is away.
        with contextlib.suppress(httpx.HTTPError, PrefectException, OSError), get_client(sync_client=True) as client:
            while not over.wait(_EVERY_S):
                state = client.read_flow_run(flow_run_id).state
                if state is None or state.type != StateType.CANCELLING:
                    since = None
                    continue
                since = since or time.monotonic()
                if time.monotonic() - since < _PATIENCE_S:
                    continue
                client.set_flow_run_state(flow_run_id, Cancelled(message="cancelled by a person"), force=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
        over.wait(_EVERY_S)
