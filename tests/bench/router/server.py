"""The router of the benchmarks, in a process of its own: ``python -m tests.bench.router.server PORT UPSTREAM MODE``.

Everything is as in ``redistill serve`` but for the registry and the flag: the route is fixed, and the version counts as proved.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from redistill.data.params import DataParams, RecordParams, SourceParams
from redistill.models.tokenizers import load_tokenizer
from redistill.serving.params import ServeParams
from redistill.serving.router.answering import Answering, Models
from redistill.serving.router.app import Parts, run
from redistill.serving.router.asked import Trained
from redistill.serving.router.line_log import LineLog
from redistill.serving.router.metrics import Metrics
from redistill.serving.router.plan import Live
from redistill.serving.router.shown import shown_to
from redistill.serving.router.trace_settings import traces_of
from redistill.serving.router.types import Side
from redistill.serving.router.upstream import Upstream
from tests.routers import ENGINE, STUDENT, SURE, TEACHER
from tests.tiny import make_tiny_model

DATA = DataParams(
    name="bank",
    task="record",
    record=RecordParams(labels=("card", "fee", "pin"), flags=("urgent",), entities=("amount",)),
    source=(SourceParams(path="x.jsonl", splits={"train": 1.0}),),
)
ROUTES = {"teacher": TEACHER, "student": STUDENT, "cascade": replace(SURE)}


def main() -> None:
    port, address, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    params, live = ServeParams(), Live(ROUTES[mode], readable=True, unverified="", engine=ENGINE)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = load_tokenizer(make_tiny_model(Path(folder) / "model"))
        upstreams: dict[Side, Upstream] = {side: Upstream(side, f"{address}/v1", "", params) for side in ("student", "teacher")}
        models = Models(upstreams, shown_to("teacher", DATA, 48, tokenizer), lambda _: shown)
        shown = shown_to("bank@7", DATA, 48, tokenizer)
        answering = Answering(models, DATA, params, lambda: live, salt="s", help_when_down=False)
        log = LineLog(Path(folder) / "decisions.jsonl")
        parts = Parts(models, Trained(DATA, 2000), params, lambda: live, log, Metrics(), answering, traces=traces_of(os.environ))
        run(parts, "127.0.0.1", port)


if __name__ == "__main__":
    main()
