"""Failures of MLflow's client and of the client of an object store as one line that says what to do.

Both raise errors of many types from many places. They are recognised by the packages of their types, so that nothing is imported for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from redistill.errors import RedistillError, RegistryError, RegistryUnavailable, without_credentials

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PACKAGES = {"mlflow", "botocore", "boto3", "s3transfer"}
_WITH_MLFLOW = {"requests", "urllib3"}
"""MLflow lets errors of these packages through when it loads or stores files by its server."""
_LETTERS = 300

_ADVICE = tuple(
    (re.compile(pattern), advice)
    for pattern, advice in (
        (
            r"NoSuchBucket|specified bucket does not exist",
            "the bucket does not exist: create it, or correct the artifact root of MLflow's server",
        ),
        (
            r"NoCredentials|Unable to locate credentials|PartialCredentials",
            "there is no key of the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (
            r"You are not authenticated",
            "the server refused user or password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (
            r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidClientTokenId|AuthFailure|InvalidToken|UNAUTHENTICATED",
            "the object store refused its key: if it was replaced, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, here or for MLflow's server",
        ),
        (
            r"\b40[13]\b|Permission denied|AccessDenied|PERMISSION_DENIED|Forbidden",
            "this account may not do that: give it the permission EDIT in MLflow, or write access to the bucket",
        ),
        (
            r"EndpointConnectionError|Could not connect to the endpoint|Connect(?:ion)?(?:Timeout|Closed|Error)|ReadTimeout|Max retries exceeded|timed out"
            r"|Connection (?:was )?(?:refused|reset|aborted|closed)|Failed to establish|too many 5\d\d|\b50[0234]\b|INTERNAL_ERROR|TEMPORARILY_UNAVAILABLE",
            "a server cannot be reached, or it cannot reach its database or its bucket, as its log says; the next run completes what is missing",
        ),
    )
)
"""What the texts of errors mean, and what to do; the first that fits counts. Each of them says nothing about what the registry holds."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """``line`` is what the client said; ``advice`` what to do, empty if nothing is known. ``unavailable``: the service was not there for us."""

    line: str
    advice: str
    unavailable: bool


def explain(error: BaseException) -> Explanation:
    """What an error of a service means."""
    text = " ".join(f"{type(each).__name__} {each}" for each in _chain(error))
    advice = next((advice for pattern, advice in _ADVICE if pattern.search(text)), "")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Explanation(without_credentials(lines[0])[:_LETTERS], advice, bool(advice))


def registry_failure(error: BaseException) -> RegistryError | None:
    """The error of a service as ours; None for an error of another kind."""
    if isinstance(error, RedistillError) or not _of_a_service(error):
        return None
    why = explain(error)
    kind = RegistryUnavailable if why.unavailable else RegistryError
    return kind(f"MLflow or its files failed ({why.line}); {why.advice or 'try again, and see the log of the server'}")


@contextmanager
def as_registry_errors() -> Iterator[None]:
    """Raises failures of the services as one line.

    Raises:
        RegistryError: MLflow or the object store failed.
    """
    try:
        yield
    except Exception as error:
        ours = registry_failure(error)
        if ours is None:
            raise
        raise ours from error


def with_registry_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, with failures of the services raised as ``RegistryError``."""

    @wraps(function)
    def call(*arguments: _P.args, **named: _P.kwargs) -> _R:
        with as_registry_errors():
            return function(*arguments, **named)

    return call


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it. Clients put the cause that says most, such as a missing bucket, behind an error of their own."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _of_a_service(error: BaseException) -> bool:
    packages = {cls.__module__.partition(".")[0] for each in _chain(error) for cls in type(each).__mro__}
    direct = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return (
        bool(direct & _PACKAGES)
        or bool(direct & _WITH_MLFLOW and _raised_in_mlflow(error))
        or bool(packages & _PACKAGES and direct & _WITH_MLFLOW)
    )


def _raised_in_mlflow(error: BaseException) -> bool:
    """Whether the error went through MLflow's code."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "mlflow":
            return True
        trace = trace.tb_next
    return False
