"""The images, built once for a test run."""

from __future__ import annotations

import pytest

from tests.infra.engine import build
from tests.infra.images import LARGE, POSTGRES, SEAWEEDFS, SMALL


@pytest.fixture(scope="session")
def images() -> None:
    """All of them, with their sizes and times for infra/README.md."""
    small = ("--build-arg", "LOCK=services", "--build-arg", "TORCH_BACKEND=", ".")
    for image, arguments in (
        (SMALL, ("-f", "infra/Containerfile", *small)),
        (POSTGRES, ("tests/infra/postgres",)),
        (SEAWEEDFS, ("--build-arg", f"BASE={SMALL}", "tests/infra/seaweedfs")),
        (LARGE, ("-f", "infra/Containerfile", ".")),
    ):
        seconds, size = build(image, *arguments)
        print(f"{image}: {size / 1e9:.2f} GB, built in {seconds:.0f} s")
