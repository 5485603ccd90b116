"""Callbacks after a step: one writes metrics to a file, one passes the model to a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

Watch = Callable[[Any, Any, int, int], None]
"""(model, tokenizer, step, of), after every optimiser step."""


class MetricsFile(TrainerCallback):
    """Appends every log to a JSONL file and reports progress; DVC stages do not talk to MLflow."""

    def __init__(self, path: Path, progress: Any = None) -> None:
        self._path = path
        self._progress = progress
        self._note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A resumed run repeats the steps since its checkpoint. What the killed run logged for them is removed."""
        if state.is_world_process_zero and self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            self._path.write_text("".join(kept), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if state.is_world_process_zero:
            self._note = f"loss {logs['loss']:.3g}" if logs and "loss" in logs else self._note
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._progress is not None and state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps, self._note)


class Watched(TrainerCallback):
    """Passes the model to a function after every step; an exception of that function ends the training."""

    def __init__(self, watch: Watch, model: Any, tokenizer: Any) -> None:
        self._watch, self._model, self._tokenizer = watch, model, tokenizer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._watch(self._model, self._tokenizer, state.global_step, state.max_steps)
