"""The images of ``infra/``, built once for a test run, and a project that belongs to their user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.test_promotion import LENIENT
from tests.tiny import make_tiny_model
from tests.tiny_project import make_tiny_project, write_params

LARGE, SMALL = "localhost/redistill:test", "localhost/redistill-services:test"
POSTGRES, SEAWEEDFS = "localhost/redistill-postgres:test", "localhost/redistill-seaweedfs:test"
USER = 10001
in_containers = [
    pytest.mark.long,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(not os.environ.get("REDISTILL_CONTAINERS"), reason="builds images and needs podman; `make test-infra` runs it"),
]


def passable(folder: Path) -> None:
    """Folders of a test are readable for their owner only, and the user of a container must pass through them."""
    for parent in folder.parents:
        if parent.stat().st_mode & 0o077 == 0:
            parent.chmod(0o711)


def project_of_the_image(path: Path) -> Path:
    """A tiny project that uses the flows of the image, and belongs to the image's user. Its gates let a tiny student pass."""
    make_tiny_project(path)
    for part in ("src", "tasks", "flows"):
        shutil.rmtree(path / part)
    # vLLM serves heads of 32 and more.
    make_tiny_model(path / "teacher", seed=1, hidden=128)
    write_params(path, **LENIENT, schedule={"nightly_cron": "17 4 1 1 *"})
    for each in (path, *path.rglob("*")):
        os.chown(each, USER, USER)
    passable(path)
    return path
