"""One ERROR line for an error with a message for the user, instead of a traceback for its task, one for its flow, and the states of both."""

from __future__ import annotations

import logging
from collections.abc import Callable

from redistill.errors import RedistillError

_AGAIN = ("Engine execution exited", "Execution of flow run")
"""Prefect's engine repeats an error that its flow has logged."""
_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect", "prefect.engine", "redistill")


class OneLine(logging.Filter):
    """Keeps the flow's line about one of our errors, without its traceback; lowers or drops the others. ``silent`` drops everything."""

    def __init__(self, silent: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._silent = silent

    def filter(self, record: logging.LogRecord) -> bool:
        if self._silent():
            return False
        if record.exc_info and isinstance(record.exc_info[1], RedistillError):
            if record.name.startswith("prefect.task_runs") or record.getMessage().startswith(_AGAIN):
                return False
            record.exc_info, record.exc_text = None, None
        if record.levelno == logging.ERROR and record.getMessage().startswith("Finished in state"):
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def install(silent: Callable[[], bool] = lambda: False) -> None:
    """Filter what Prefect logs, once in a process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(old, OneLine) for old in logger.filters):
            logger.addFilter(OneLine(silent))
