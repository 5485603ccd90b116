"""Stage ``score``: the teacher's probabilities for exactly the kept token ids.

Only what ``generate`` could not capture is computed: with local weights one forward pass gives top-k, tail, entropy and
log Z_T for prompt and completion tokens; an engine's or endpoint's captured top-k are passed on as they are, at T = 1.
"""

from __future__ import annotations

import numpy as np

from redistill import checkpoints
from redistill.artifacts import read_records, read_soft_targets, write_json, write_soft_targets
from redistill.config import ScoreParams
from redistill.errors import DataError
from redistill.progress import Progress
from redistill.prompting import encode, vocabulary_size
from redistill.records import SoftTargets, TrainingRow
from redistill.scoring import score_sequences
from tasks.edge import ARTIFACTS, run
from tasks.teacher import LockedTeacher, read_lock


def score(score: ScoreParams) -> None:
    """Write ``artifacts/soft_targets.parquet`` for the kept pool rows."""
    lock = read_lock()
    rows = read_records(ARTIFACTS / "validated" / "kept.parquet", TrainingRow)
    captured = read_soft_targets(ARTIFACTS / "completions" / "captured.parquet")
    if score.top_k == 0 or lock.path is None:
        wanted = {(r.prompt_id, r.sample_index) for r in rows}
        targets = [t for key, t in captured.items() if key in wanted]
    else:
        targets = _from_weights(rows, lock, score)
    write_soft_targets(ARTIFACTS / "soft_targets" / "targets.parquet", targets, lock.tokenizer_digest or "", lock.answers_from(""))
    tokens = int(sum(len(t.tail_T) for t in targets))
    tail = float(np.concatenate([t.tail_T for t in targets]).mean()) if tokens else 0.0
    write_json(
        ARTIFACTS / "soft_targets" / "summary.json",
        {"rows": len(targets), "tokens": tokens, "top_k": score.top_k, "mean_tail_mass": round(tail, 6)},
    )


def _from_weights(rows: list[TrainingRow], lock: LockedTeacher, params: ScoreParams) -> list[SoftTargets]:
    assert lock.path is not None
    if checkpoints.fingerprint(lock.path, "").digest not in lock.answers.values():
        raise DataError(f"{lock.path} is not the teacher that answered; restore it with `dvc checkout`, or lock and generate again")
    model = checkpoints.load_model(lock.path, "bfloat16")
    sequences = [
        ((r.prompt_id, r.sample_index), np.asarray([*encode(r.prompt, lock.tokenizer), *r.completion_ids], dtype=np.int64)) for r in rows
    ]
    progress = Progress("score", len(sequences), "rows")
    targets: list[SoftTargets] = []
    for scored in score_sequences(
        model, sequences, params.top_k, params.temperatures, params.batch_tokens, vocabulary_size(lock.tokenizer)
    ):
        targets.append(scored)
        progress(len(targets))
    return targets


if __name__ == "__main__":
    run(score)
