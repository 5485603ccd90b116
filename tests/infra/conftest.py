"""The images, built once for a test run."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.infra.engine import build
from tests.infra.images import LARGE, POSTGRES, SEAWEEDFS, SMALL
from tests.infra.validators import docker_compose


@pytest.fixture(scope="session")
def images() -> None:
    """All of them, with their sizes and times for infra/README.md."""
    # Who asks for these tests wants no green run without them.
    assert shutil.which("podman") and docker_compose(), "needs podman, and the Docker Compose that `make check` fetches"
    assert os.geteuid() == 0, "needs root, because a project must belong to the user of the image"
    small = ("--build-arg", "LOCK=services", "--build-arg", "TORCH_BACKEND=", ".")
    for image, arguments in (
        (SMALL, ("-f", "infra/Containerfile", *small)),
        (POSTGRES, ("tests/infra/postgres",)),
        (SEAWEEDFS, ("--build-arg", f"BASE={SMALL}", "tests/infra/seaweedfs")),
        (LARGE, ("-f", "infra/Containerfile", ".")),
    ):
        seconds, size = build(image, *arguments)
        print(f"{image}: {size / 1e9:.2f} GB, built in {seconds:.0f} s")
