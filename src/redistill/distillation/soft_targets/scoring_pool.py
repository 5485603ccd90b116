"""Scoring by the replicas of a cluster: each has the teacher's weights, and scores whole batches.

The batches are those of one process, and their results come back in its order, so the soft targets are the same files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redistill.cluster.connection import connected
from redistill.cluster.pool import Replicas
from redistill.cluster.settings import ClusterSettings
from redistill.cluster.types import Lost
from redistill.distillation.soft_targets.scoring import Sequenced, batches_of, score_batch
from redistill.distillation.types import SoftTargets
from redistill.errors import TeacherError

_LARGEST, _AHEAD = 8, 256
"""Batches that a replica takes at once, and how many may be finished before their turn: they wait in memory, each with up to ``batch_tokens`` tokens."""


class ScoringWorker:
    """The teacher in memory; an item is a batch, its result the soft targets of its rows."""

    def __init__(self, load: Callable[[], Any], k: int, temperatures: Sequence[float], vocabulary: int) -> None:
        self._model, self._k, self._temperatures, self._vocabulary = load(), k, temperatures, vocabulary

    def work(self, items: Sequence[Sequence[Sequenced]]) -> Iterator[tuple[int, list[SoftTargets]]]:
        for place, batch in enumerate(items):
            yield place, list(score_batch(self._model, batch, self._k, self._temperatures, self._vocabulary))


def score_on_cluster(
    settings: ClusterSettings,
    load: Callable[[], Any],
    code: Callable[[], str],
    sequences: Sequence[Sequenced],
    k: int,
    temperatures: Sequence[float],
    batch_tokens: int,
    vocabulary: int,
) -> Iterator[SoftTargets]:
    """Yield what ``score_sequences`` would, in its order.

    Args:
        load: loads the teacher, in a replica.
        code: says which code runs, here and in a replica.

    Raises:
        TeacherError: no replica is left, or replicas ended again and again on the same batch.
    """
    batches = batches_of(sequences, batch_tokens)
    with connected(settings) as ray:
        replicas = Replicas(ray, settings, "score", functools.partial(ScoringWorker, load, k, tuple(temperatures), vocabulary), code)
        try:
            early: dict[int, list[SoftTargets]] = {}
            turn = 0
            for place, result in replicas.results(batches, _LARGEST, 1, _AHEAD):
                if isinstance(result, Lost):
                    raise TeacherError(
                        f"every replica ended that scored row {batches[place][0].key.prompt_id} and the {len(batches[place]) - 1} beside it "
                        f"({result.reason}); most often memory is short: lower score.batch_tokens"
                    )
                early[place] = result
                while turn in early:
                    yield from early.pop(turn)
                    turn += 1
        finally:
            replicas.close()
