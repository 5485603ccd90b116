"""Stage ``score``: the teacher's probabilities for exactly the kept token ids, after the prompt that the teacher read.

Only what ``generate`` could not capture is computed: with local weights one forward pass gives top-k, tail, entropy and
log Z_T for prompt and completion tokens; an engine's or endpoint's captured top-k are passed on as they are, at T = 1.
Where the student's tokenizer is not the teacher's there is nothing to compare, so nothing is written. Of a prompt that only the teacher
reads nothing is kept: the student has no such tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import chain
from typing import Any

from redistill.cluster.settings import cluster_settings
from redistill.distillation.params import ScoreParams
from redistill.distillation.soft_targets.for_student import for_student
from redistill.distillation.soft_targets.scoring import Sequenced, score_sequences
from redistill.distillation.soft_targets.scoring_pool import score_on_cluster
from redistill.distillation.soft_targets.shards import ShardFacts, SoftTargetFiles, write_soft_targets
from redistill.distillation.types import SoftTargets, TrainingRow, sequence_digest
from redistill.errors import ConfigError, DataError
from redistill.io.json import write_json
from redistill.io.parquet import read_records
from redistill.models import checkpoints
from redistill.models.lm_head import check_supported_head
from redistill.models.tokenizers import vocabulary_size
from redistill.runtime.precision import dtype_name
from redistill.runtime.progress import Progress
from redistill.teacher.types import TeacherCompletion
from tasks.locking import earlier_targets
from tasks.locking.locked_teacher import LockedTeacher, read_lock, refuse_unnamed, require_locked_weights
from tasks.locking.open_teacher import code_of_this_node, same_teacher
from tasks.paths import ARTIFACTS
from tasks.results.rates import RateMeter


def score(score: ScoreParams) -> None:
    """Write ``artifacts/soft_targets`` for the kept pool rows: shards, and a summary of what they hold and cost."""
    lock = read_lock()
    kept = read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)
    rows = [r for r in kept if r.tokenizer == lock.tokenizer_digest]
    if len(rows) < len(kept) and lock.tokenizer is not None:
        print("[score] no soft targets: the student's tokenizer is not the teacher's, so the same ids mean other tokens", flush=True)
    vocabulary = 0 if lock.tokenizer is None else vocabulary_size(lock.tokenizer)
    if not rows:
        targets: Iterator[SoftTargets] = iter(())
    elif score.top_k == 0 or lock.path is None:
        targets = _captured(rows)
    else:
        if score.top_k > vocabulary:
            raise ConfigError(f"score.top_k={score.top_k}, but the teacher's vocabulary has {vocabulary} tokens; lower score.top_k")
        present = [r for r in rows if r.teacher in ("", lock.fingerprint.digest)]
        earlier = [r for r in rows if r.teacher not in ("", lock.fingerprint.digest)]
        refuse_unnamed(lock, earlier)
        if not present and earlier_targets.copy_whole(earlier, score):
            return
        targets = chain(earlier_targets.read(earlier, score), _from_weights(present, lock, score, vocabulary))
    shards = write_soft_targets(ARTIFACTS / "soft_targets" / "targets", targets, lock.tokenizer_digest or "", vocabulary, score.coded_bits)
    write_json(ARTIFACTS / "soft_targets" / "summary.json", {"top_k": score.top_k, "bits": score.coded_bits, **_summary(shards)})


def _captured(rows: list[TrainingRow]) -> Iterator[SoftTargets]:
    """What came with the completions. A completion that is trained on in another spelling has other tokens, so what came with it does not fit."""
    captured, other = SoftTargetFiles(ARTIFACTS / "completions" / "captured"), list[TrainingRow]()
    for row in rows:
        if row.key not in captured:
            continue
        targets = captured[row.key]
        if targets.sequence == sequence_digest(row.teacher_token_ids):
            yield for_student(targets, row)
        else:
            other.append(row)
    if not other:
        return
    written = {
        (c.prompt_id, c.sample_index): c.text for c in read_records(ARTIFACTS / "completions" / "completions.parquet", TeacherCompletion)
    }
    for row in other:
        if written.get((row.prompt_id, row.sample_index), "").strip() == row.completion.strip():
            raise DataError(
                f"the probabilities that came with the completion of row {row.key} belong to other tokens than those that are trained on; "
                "run the stages generate, validate and score again"
            )
    print(
        f"[score] {len(other)} of {len(rows)} rows have no soft targets, because they are trained on in another spelling than the teacher's",
        flush=True,
    )


def _summary(shards: list[ShardFacts]) -> dict[str, object]:
    tokens = sum(s.tokens for s in shards)

    def mean(of: str) -> float:
        return float(f"{sum(getattr(s, of) * s.tokens for s in shards) / max(1, tokens):.4g}")

    return {
        "rows": sum(s.rows for s in shards),
        "tokens": tokens,
        "mean_tail_mass": mean("tail"),
        "bytes_per_token": mean("bytes_per_token"),
        "kl_error_nats": mean("kl_error"),
        "kl_error_nats_at": {
            t: float(f"{sum(s.kl_error_at.get(t, 0.0) * s.tokens for s in shards) / max(1, tokens):.4g}")
            for t in sorted({t for s in shards for t in s.kl_error_at})
        },
        "shards": shards,
    }


def _from_weights(rows: list[TrainingRow], lock: LockedTeacher, params: ScoreParams, vocabulary: int) -> Iterator[SoftTargets]:
    if not rows:
        return
    require_locked_weights(lock, rows)
    progress = Progress("score", len(rows), "rows")
    by_key = {r.key: r for r in rows}
    sequences = [Sequenced(r.key, r.teacher_token_ids, max(1, len(r.teacher_prompt_ids))) for r in rows]
    arguments = (sequences, params.top_k, params.temperatures, params.batch_tokens, vocabulary)
    if (settings := cluster_settings()) is None:
        scored = score_sequences(_load(lock), *arguments)
    else:
        scored = score_on_cluster(settings, functools.partial(load_replica, lock.fingerprint.digest), code_of_this_node, *arguments)
    meter = RateMeter("score")
    for done, targets in enumerate(scored, 1):
        meter.count()
        yield for_student(targets, by_key[targets.key])
        progress(done)
    meter.remember()


def load_replica(digest: str) -> Any:
    """The teacher with this digest, loaded by a replica in its node's copy of the project."""
    lock = same_teacher(digest)
    require_locked_weights(lock)
    return _load(lock)


def _load(lock: LockedTeacher) -> Any:
    assert lock.path is not None
    model = checkpoints.load_model(lock.path, dtype_name())
    check_supported_head(model)
    return model
