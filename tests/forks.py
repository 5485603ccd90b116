"""Commands as forks of one process that holds the heavy libraries, so that a test does not pay for imports at each command.

What runs is the project's code, imported fresh in each fork; only third-party modules are there beforehand.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tasks.running import fork_server

STAGES = ("great_expectations", "optuna", "sklearn.linear_model", "sklearn.feature_extraction.text", "datasketch")
"""What a stage or a trial imports besides. In a cycle one stage does, so its server does not hold them; here dozens do."""
COMMANDS = (
    "prefect.main",
    "prefect.events",
    "prefect.artifacts",
    "prefect.runtime",
    "mlflow",
    "mlflow.transformers",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "typer.main",
    "optuna",
    "model_signing",
    "datasketch",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "matplotlib.pyplot",
    "openfeature.contrib.provider.flagd",
    "pyarrow.parquet",
    "scipy.stats",
    "torch",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
)


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class ForkServer:
    """Two servers, as in a real cycle: commands have Prefect and MLflow, which set up logging their own way, and stages have neither."""

    commands: str
    stages: str

    def run(
        self, module: str, *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = 600.0
    ) -> Done:
        """``python -m MODULE ARGUMENT ...`` to its end, with what it wrote; the stages of a command are forks too."""
        environment = {**(dict(os.environ) if env is None else env), fork_server.SOCKET: self.stages}
        path = self.commands if module in ("redistill", "tests.killed") else self.stages
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            link = fork_server.request(path, module, list(arguments), environment, streams, str(cwd or Path.cwd()))
            assert link is not None, "the fork server has ended"
            with link:
                link.settimeout(timeout_s)
                code = fork_server.exit_code(link)
            out.seek(0)
            err.seek(0)
            said, complained = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        assert code is not None, f"no exit code of {module} within {timeout_s:.0f} s; it wrote: {complained[-3000:]}"
        return Done(code, said, complained)
