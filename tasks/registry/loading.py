"""Files of versions and runs on their way from the registry: are they missing, or is the place where they are kept away?

A missing or changed file is a reason to distrust a version. A store that does not answer, or refuses our key, says nothing about the version: the command
fails, and what is live stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redistill.errors import RegistryError, RegistryUnavailable
from redistill.runtime.service_failures import explain, registry_failure


@contextmanager
def loading(description: str, uri: str) -> Iterator[None]:
    """Raises what goes wrong with the download of ``uri`` in one line; ``description`` names the files in it.

    Raises:
        RegistryError: the files are not there, or not as they should be.
        RegistryUnavailable: nothing can be read at this place now.
    """
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and registry_failure(error) is None:
            raise
        why = explain(error)
        problem = f"{description} cannot be loaded ({why.line[:200]})"
        if why.unavailable and _nothing_can_be_read(uri):
            raise RegistryUnavailable(f"{problem}; {why.advice}") from error
        raise RegistryError(problem) from error


def _nothing_can_be_read(uri: str) -> bool:
    """A server says of a missing file, too, that it failed. So another question is asked at the same place."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(uri).list_artifacts()
    except Exception:
        return True  # clients of stores raise errors of many types
    return False
