"""A teacher made of teachers: replicas on a cluster complete prompts, and this process alone stores what they write.

Keys, resume and the files of the stage are those of one teacher.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from redistill.cluster.connection import connected
from redistill.cluster.pool import Replicas
from redistill.cluster.settings import ClusterSettings
from redistill.cluster.types import Lost
from redistill.teacher.backend import Teacher
from redistill.teacher.endings import FAILED
from redistill.teacher.params import GenerateParams
from redistill.teacher.types import TeacherAnswer, TeacherCapabilities, TeacherRequest

_BATCHES = 4
"""Full batches of a chunk: the engine runs half empty only while a chunk's last batch ends."""


class CompletingWorker:
    """One teacher in a replica's process; an item is a request."""

    def __init__(self, open_one: Callable[[], Teacher], params: GenerateParams) -> None:
        self._teacher, self._params = open_one(), params

    def work(self, items: Sequence[TeacherRequest]) -> Iterator[tuple[int, TeacherAnswer]]:
        places = {(request.prompt_id, request.sample_index): place for place, request in enumerate(items)}
        for answer in self._teacher.complete(items, self._params):
            yield places[answer.request.prompt_id, answer.request.sample_index], answer


class TeacherPool:
    """The teacher interface over the replicas of a cluster. They start with the first requests and end with the last completion."""

    def __init__(
        self, settings: ClusterSettings, open_one: Callable[[], Teacher], code: Callable[[], str], capabilities: TeacherCapabilities
    ) -> None:
        """``open_one`` opens the teacher in a replica; ``code`` says which code runs, here and in a replica."""
        self._settings, self._open_one, self._code, self._capabilities = settings, open_one, code, capabilities

    def capabilities(self) -> TeacherCapabilities:
        return self._capabilities

    def complete(self, requests: Sequence[TeacherRequest], params: GenerateParams) -> Iterator[TeacherAnswer]:
        """Yield completions as they come from any replica. A prompt on which replicas ended again and again gets none, with the reason.

        Raises:
            ConfigError: the cluster cannot be joined.
            TeacherError: no replica is left, or one cannot open the teacher.
        """
        make = functools.partial(CompletingWorker, self._open_one, params)
        with connected(self._settings) as ray:
            replicas = Replicas(ray, self._settings, "generate", make, self._code)
            try:
                for place, result in replicas.results(requests, _BATCHES * params.batch_rows, max(1, params.batch_rows // 4)):
                    if isinstance(result, Lost):
                        yield TeacherAnswer(
                            requests[place], "", None, (), FAILED, None, detail=f"every replica that worked on it ended: {result.reason}"
                        )
                    else:
                        yield replace(result, request=requests[place])
            finally:
                replicas.close()

    def close(self) -> None:
        """Nothing is left open between calls."""
