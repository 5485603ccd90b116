"""The completion store: every teacher completion, from the moment it arrives.

Its key contains everything that affects a completion: the fingerprint of the teacher, the rendered prompt and messages, the
sampling, the sample's index, the stop sequences, and the requested top-k. A stage that is killed and started again requests only
the missing completions; a change of filter, student or schedule requests none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from redistill.errors import DataError
from redistill.io.digests import canonical_digest
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherRequest

LOCAL = "neutral settings, all end tokens"
"""How local weights generate in this version. Endpoints generate by their own rules, so their stored completions stay valid."""


def request_key(teacher_digest: str, request: TeacherRequest, params: GenerateParams, generated_by: str | None = None) -> str:
    """Sha256 of everything that could change the completion, and of nothing else.

    The prompt's id and slice are left out, because the teacher never sees them. ``generated_by`` names how local weights generate: completions that
    an older version made with inherited settings are generated again.
    """
    # Before tasks had stop sequences, every request stopped at a newline. Its key stays as it was, so that stored completions stay valid.
    stop = {} if request.stop == ("\n",) else {"stop": list(request.stop)}
    return canonical_digest(
        {
            "teacher": teacher_digest,
            "prompt": request.prompt,
            "messages": [[m.role, m.content] for m in request.messages],
            "sample": request.sample_index,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "max_tokens": params.max_tokens,
            "seed": params.seed,
            "top_k": params.top_k,
            **stop,
            **({} if request.form is None else {"form": [request.form.kind, request.form.text, request.form.lead]}),
            **({} if generated_by is None else {"generated_by": generated_by}),
        }
    )


class CompletionStore:
    """SQLite in WAL mode with one row per completion and one commit per batch, so kill -9 loses at most the current batch."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        with self._explained():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, body BLOB NOT NULL)")
            # A table of its own: an older version of redistill can still read and write the other one, as `redistill reproduce` lets it.
            self._db.execute("CREATE TABLE IF NOT EXISTS origins (key TEXT PRIMARY KEY, teacher TEXT NOT NULL, stored_s REAL NOT NULL)")
            # Of which prompt a completion is, so that `redistill forget` finds it; a table of its own for the same reason.
            self._db.execute("CREATE TABLE IF NOT EXISTS prompts (key TEXT PRIMARY KEY, prompt TEXT NOT NULL)")
            self._db.commit()

    def get(self, key: str, request: TeacherRequest) -> TeacherAnswer | None:
        """The stored completion; None where there is none, or what is stored is no completion."""
        with self._explained():
            row = self._db.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else _unpack(row[0], request)

    def put(self, answers: Sequence[tuple[str, TeacherAnswer]]) -> None:
        """Store completions, with the teacher that each request names, so that `redistill gc` can tell what is in use."""
        with self._explained(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", [(k, _pack(a)) for k, a in answers])
            self._name_teachers([(k, a.request.teacher) for k, a in answers])
            self._name_prompts([(k, a.request.prompt_id) for k, a in answers])

    def name_teachers(self, teachers: Sequence[tuple[str, str]]) -> None:
        """Record the teacher of completions (key, digest) that a version of redistill stored which did not record it."""
        with self._explained(), self._db:
            unnamed = self._db.execute("SELECT 1 FROM answers WHERE key NOT IN (SELECT key FROM origins) LIMIT 1").fetchone()
            if unnamed:
                self._name_teachers(teachers)

    def _name_teachers(self, teachers: Sequence[tuple[str, str]]) -> None:
        now_s = time.time()
        self._db.executemany(
            "INSERT OR IGNORE INTO origins VALUES (?, ?, ?)", [(key, teacher, now_s) for key, teacher in teachers if teacher]
        )

    def name_prompts(self, prompts: Sequence[tuple[str, str]]) -> None:
        """Record the prompt of completions (key, prompt id) that a version of redistill stored which did not record it."""
        with self._explained(), self._db:
            self._name_prompts(prompts)

    def _name_prompts(self, prompts: Sequence[tuple[str, str]]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO prompts VALUES (?, ?)", prompts)

    def count_of(self, prompt_ids: Sequence[str]) -> int:
        """How many completions of these prompts are stored."""
        with self._explained():
            return sum(
                int(self._db.execute("SELECT count(*) FROM answers JOIN prompts USING (key) WHERE prompt = ?", (each,)).fetchone()[0])
                for each in prompt_ids
            )

    def unnamed(self) -> int:
        """How many completions have no recorded prompt: an older version of redistill stored them."""
        with self._explained():
            return int(self._db.execute("SELECT count(*) FROM answers WHERE key NOT IN (SELECT key FROM prompts)").fetchone()[0])

    def forget_prompts(self, prompt_ids: Sequence[str]) -> int:
        """Remove all completions of these prompts, also from the file's free pages; returns how many."""
        count = self.count_of(prompt_ids)
        with self._explained():
            self._db.execute("PRAGMA secure_delete=ON")
            with self._db:
                for each in prompt_ids:
                    for table in ("answers", "origins"):
                        self._db.execute(f"DELETE FROM {table} WHERE key IN (SELECT key FROM prompts WHERE prompt = ?)", (each,))  # noqa: S608 - names of ours
                    self._db.execute("DELETE FROM prompts WHERE prompt = ?", (each,))
            # What the log of pending writes still has of them.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    def forget(self, teacher: str) -> None:
        """Remove all completions of a teacher, so that it is asked again."""
        with self._explained(), self._db:
            self._db.execute("DELETE FROM prompts WHERE key IN (SELECT key FROM origins WHERE teacher = ?)", (teacher,))
            self._db.execute("DELETE FROM answers WHERE key IN (SELECT key FROM origins WHERE teacher = ?)", (teacher,))
            self._db.execute("DELETE FROM origins WHERE teacher = ?", (teacher,))

    def __len__(self) -> int:
        with self._explained():
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"cannot use the completion store {self._path} ({error}); stored completions are kept; free some space, fix its permissions, or remove a file that is not a store, then run again"
            ) from error


def _pack(answer: TeacherAnswer) -> bytes:
    body = [
        answer.text,
        answer.reasoning,
        answer.token_ids,
        answer.finish_reason,
        answer.mean_logprob,
        answer.top_ids,
        answer.top_logprobs,
        answer.top_tokens,
    ]
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 3)


def _unpack(body: bytes, request: TeacherRequest) -> TeacherAnswer | None:
    """A stored completion; None where a later stage could not use it. Earlier versions stored whatever an endpoint returned."""
    try:
        text, reasoning, ids, finish, mean, top_ids, top_lp, top_tokens = json.loads(zlib.decompress(body))
        rows, values, tokens = (tuple(tuple(row) for row in part) for part in (top_ids, top_lp, top_tokens))
        answer = TeacherAnswer(request, text, reasoning, tuple(ids), finish, mean, rows, values, tokens)
    except (zlib.error, ValueError, TypeError):
        return None
    return answer if _usable(answer) else None


def _usable(answer: TeacherAnswer) -> bool:
    texts = isinstance(answer.text, str) and isinstance(answer.finish_reason, str) and isinstance(answer.reasoning, str | None)
    numbers = isinstance(answer.mean_logprob, int | float | None) and all(
        isinstance(v, int | float) for row in answer.top_logprobs for v in row
    )
    return texts and numbers and all(type(i) is int and 0 <= i < 2**31 for row in (answer.token_ids, *answer.top_ids) for i in row)
