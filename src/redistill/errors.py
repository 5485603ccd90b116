"""The errors that redistill raises.

::

    RedistillError
    ├── ConfigError (also ValueError)     exit 2   params, usage, licences not reviewed
    ├── DataError (also ValueError)       exit 3   source rows, files, artifacts
    ├── TeacherError                      exit 4   the teacher does not respond, or cannot do what is requested
    ├── StageError                        exit 5   a DVC stage ended with an error
    ├── InterruptedByUser                 exit 130 Ctrl-C
    └── RegistryError                     exit 6   MLflow registry, aliases, evidence
        └── RegistryUnavailable           exit 6   it does not answer, or refuses us: nothing is known about what it holds

A message says what was wrong, the value, the limit, why, and what to do next. To add an error: subclass here, give
it an ``exit_code``, and keep it picklable (positional arguments only).
"""

from __future__ import annotations

import re


class RedistillError(Exception):
    """Base of all errors with a message for the user."""

    exit_code = 1

    def __str__(self) -> str:
        return without_credentials(super().__str__())

    def __repr__(self) -> str:
        # Prefect logs errors by this; the last lines of a stage's log, which an error carries, are in the log already.
        return f"{type(self).__name__}({str(self)!r})"


class ConfigError(RedistillError, ValueError):
    """``params.yaml`` or the command line is wrong."""

    exit_code = 2


class DataError(RedistillError, ValueError):
    """A source, a row or an artifact is missing or wrong."""

    exit_code = 3


class TeacherError(RedistillError):
    """The teacher cannot be reached, refuses a request, or returns invalid data."""

    exit_code = 4


class StageError(RedistillError):
    """A stage's process ended with an error; carries its name, exit code and last log lines."""

    exit_code = 5

    def __init__(self, message: str, stage: str = "", code: int = 0, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message, stage, code, log_tail)
        self.stage = stage
        self.code = code
        self.log_tail = log_tail

        # The exit code of the stage's own error is kept: bad data is exit 3, in a stage too.
        self.exit_code = code if code in (2, 3, 4) else 5

    def __str__(self) -> str:
        return without_credentials(str(self.args[0]))


class InterruptedByUser(RedistillError):
    """Ctrl-C."""

    exit_code = 130


class RegistryError(RedistillError):
    """The model registry refused a request, or its state is not what redistill recorded."""

    exit_code = 6


class RegistryUnavailable(RegistryError):
    """The registry or its files cannot be reached, or refuse us. That says nothing against what they hold, so a champion keeps its traffic."""


_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/:@[]*:(?!\d+(?:[/\s?#]|$))\S*@|[^\s/]*@)")
"""User and password of an address. Also a password in which somebody left an @ or a / as it is; but not the port of an address whose path has an @."""
_ONE_LINE = 500


def without_credentials(text: str) -> str:
    """A text whose addresses have neither user nor password: ``postgresql://user:password@host/database`` becomes ``postgresql://host/database``."""
    return _CREDENTIALS.sub("", text)


def one_line(error: BaseException) -> str:
    """An error as people read it where it is kept: one line of at most 500 characters, without credentials of addresses.

    Of an error that is not ours, only its type and its first line: the rest is for developers.
    """
    lines = str(error).strip().splitlines() or [""]
    text = " ".join(" ".join(lines).split()) if isinstance(error, RedistillError) else f"{type(error).__name__}: {lines[0]}"
    return without_credentials(text)[:_ONE_LINE]
