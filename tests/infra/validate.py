"""What `make check` asks the validators of ``infra/``: ``python -m tests.infra.validate``. A tool that is missing is told, and skipped."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.infra import validators


def compose() -> Iterator[tuple[str, str]]:
    """What was validated, and the error; empty where it fits."""
    if validators.docker_compose() is None:
        print("skipped: compose files, since there is no Docker Compose 2 (`make check` fetches it on Linux x86-64)")
        return
    with tempfile.TemporaryDirectory() as folder:
        example = validators.filled_example(Path(folder))
        for files, env_file in ((validators.ONE_BOX, None), (validators.TEAM, example)):
            done = validators.merged(files, env_file)
            yield " + ".join(files), "" if done.returncode == 0 else done.stderr.strip()


def kubernetes() -> Iterator[tuple[str, str]]:
    for overlay in validators.OVERLAYS:
        documents = validators.rendered(overlay)
        for version in validators.KUBERNETES:
            yield f"k8s/overlays/{overlay} with Kubernetes {version}", "\n".join(validators.against_schema(documents, version))


def prometheus() -> Iterator[tuple[str, str]]:
    for arguments in (("check", "config", "infra/prometheus.yaml"), ("test", "rules", "tests/infra/alerts_test.yaml")):
        done = validators.promtool(*arguments)
        if done is None:
            print("skipped: alerts.yaml, since there is no promtool (Debian's package prometheus has it)")
            return
        yield f"promtool {' '.join(arguments)}", "" if done.returncode == 0 else done.stdout + done.stderr


def main() -> int:
    failed = 0
    for name, error in (*compose(), *kubernetes(), *prometheus()):
        print(f"{'error' if error else 'ok'}: {name}" + (f"\n{error}" if error else ""))
        failed += bool(error)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
