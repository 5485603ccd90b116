"""How the router shows both models a request: the locked teacher with what only it is shown, and each verified version of the student."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.templates import template_digest
from redistill.errors import RedistillError, RegistryError
from redistill.models.tokenizers import load_tokenizer
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.serving.router.answering import Models
from redistill.serving.router.asked import Trained, system_digest
from redistill.serving.router.proof import lists
from redistill.serving.router.saying import say
from redistill.serving.router.shown import Shown, shown_to
from redistill.serving.types import ServedVersion
from tasks.locking.locked_teacher import read_lock
from tasks.paths import ARTIFACTS, LOCK
from tasks.registry.artifact import short_lived
from tasks.registry.runs_and_versions import connect
from tasks.serving.served_version import verified_version

_LOCK_POLL_S = 2.0
_MOST_ROWS = 200_000
_MOST_SYSTEMS = 64


def teacher_name(params: Params, digest: str) -> str:
    """The name under which ``redistill up-models`` serves the teacher."""
    return f"{params.data.name}-teacher@{digest[:12]}"


def shown_teacher(params: Params) -> Shown:
    """The locked teacher.

    Raises:
        DataError: no teacher is locked.
    """
    lock = read_lock()
    model = params.teacher.model if lock.backend == "openai" else teacher_name(params, lock.fingerprint.digest)
    return shown_to(model, params.data, params.benchmark.max_tokens, lock.tokenizer, lock.prompt)


async def follow_lock(params: Params, models: Models) -> None:
    """Show requests as the locked teacher needs them, also after another teacher was locked, once its server lists it. Runs until cancelled."""
    loop, shown_for, waits = asyncio.get_running_loop(), _stamp(), ""
    while True:
        await asyncio.sleep(_LOCK_POLL_S)
        if (stamp := _stamp()) == shown_for:
            continue
        try:
            shown = await loop.run_in_executor(None, shown_teacher, params)
        except RedistillError as error:
            waits = _tell(waits, f"warning: {LOCK} has changed and cannot be used ({error}); the teacher before it answers")
            continue
        server = models.upstreams["teacher"]
        if shown.model != models.teacher.model and not await lists(server, shown.model):
            waits = _tell(
                waits, f"another teacher is locked, and its server does not list {shown.model} yet; restart it with `redistill up-models`"
            )
            continue
        models.teacher, shown_for, waits = shown, stamp, ""
        say(f"another teacher is locked: {shown.model} answers now")


def _stamp() -> tuple[int, ...]:
    try:
        status = LOCK.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _tell(before: str, sentence: str) -> str:
    """Say a sentence once, as long as it does not change."""
    if sentence != before:
        say(sentence)
    return sentence


class Students:
    """The verified versions of the student, each with its own tokenizer."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._shown: dict[str, Shown] = {}

    def verified(self, version: str) -> ServedVersion:
        """Verify a version, and learn how it is shown a request.

        Raises:
            RegistryError: it does not verify, or was trained with another template than params.yaml has now.
        """
        # What is needed is in memory then. The server of the version has weights of its own.
        with short_lived():
            served, artifact = verified_version(self._params, version)
            tokenizer = load_tokenizer(artifact.weights)
        tags = connect(self._params).get_model_version(self._params.data.name, version).tags
        if tags.get(mlflow_names.TAG_TEMPLATE) != template_digest(self._params.data, tokenizer):
            raise RegistryError(
                f"version {version} was trained with another template than params.yaml has now (format, prompt_template, structured_outputs); run a cycle, or restore the section data"
            )
        self._shown[version] = shown_to(served.name, self._params.data, self._params.benchmark.max_tokens, tokenizer)
        return served

    def shown(self, version: str) -> Shown:
        """How a version that was verified is shown a request."""
        return self._shown[version]


def trained_on(params: Params) -> Trained:
    """On which requests students are trained, from the prompts of the last cycle."""
    data, limit = params.data, params.intake.max_chars
    if data.format == "plain":
        return Trained(data, limit)
    systems, turns = _conversations(data)
    return Trained(data, limit, frozenset(systems), turns)


def _conversations(data: DataParams) -> tuple[set[str], int]:
    """Digests of the most frequent system messages of the rows (that of the empty text for rows without one), and the most other messages in one."""
    counted: Counter[str] = Counter()
    turns = 1
    for split in ("train", "pool"):
        for messages in _messages(ARTIFACTS / "prompts" / f"{split}.parquet"):
            system = next((m["content"] for m in messages if m["role"] == "system"), "")
            counted[system_digest(system)] += 1
            turns = max(turns, sum(m["role"] != "system" for m in messages))
    return {digest for digest, _ in counted.most_common(_MOST_SYSTEMS)}, turns


def _messages(file: Path) -> Any:
    import pyarrow.parquet as pq

    if not file.is_file():
        return
    count = 0
    for batch in pq.ParquetFile(file).iter_batches(columns=["messages"]):
        yield from batch.column("messages").to_pylist()
        count += len(batch)
        if count >= _MOST_ROWS:
            return
