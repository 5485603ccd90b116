"""The validators of ``infra/``: Docker Compose 2, kustomize with Kubernetes' own schemas, and promtool. A tool that is not there is None."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.tiny_project import ROOT

INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent
ONE_BOX, TEAM = ("compose.yaml",), ("compose.yaml", "compose.team.yaml")
OVERLAYS = ("one-node", "team")
KUBERNETES = ("1.31", "1.37")
"""The oldest and the newest version whose schemas the manifests must fit."""


def tool(name: str) -> str | None:
    """The path of a tool: of this environment, or of the machine."""
    here = BIN / name
    return str(here) if os.access(here, os.X_OK) else shutil.which(name)


def docker_compose() -> str | None:
    """Docker Compose 2, which `make check` fetches. Version 1 has the same name on some machines, and accepts less."""
    path = tool("docker-compose")
    if path is None:
        return None
    done = subprocess.run([path, "version", "--short"], capture_output=True, text=True, check=False)
    return path if done.returncode == 0 and done.stdout.strip().lstrip("v").startswith(("2.", "5.")) else None


def merged(files: Sequence[str], env_file: Path | None, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What Docker Compose makes of the files; it ends with an error where it would not start them."""
    program = docker_compose()
    assert program is not None
    command = [program, *(["--env-file", str(env_file)] if env_file else []), "--profile", "serving"]
    command += [part for name in files for part in ("-f", str(INFRA / name))]
    # Nothing of this machine: a variable that happens to be set here would hide a mistake.
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(environment or {})}
    return subprocess.run([*command, "config"], capture_output=True, text=True, check=False, env=clean)


def filled_example(folder: Path, without: str = "", **values: str) -> Path:
    """An env file as a user makes it from ``env.example``: each empty value filled in, without one of them."""
    lines = []
    for line in (INFRA / "env.example").read_text(encoding="utf-8").splitlines():
        name = line.partition("=")[0]
        if line.endswith("=") and not line.startswith("#") and name != without:
            lines.append(f"{name}={values.get(name, f'secret-of-{name}')}")
    file = folder / "team.env"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def rendered(overlay: str) -> list[dict[str, Any]]:
    """The manifests of an overlay, made by kustomize (it is part of kubectl)."""
    program = tool("kubectl")
    assert program is not None
    done = subprocess.run([program, "kustomize", str(INFRA / "k8s/overlays" / overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def against_schema(documents: Sequence[dict[str, Any]], version: str) -> list[str]:
    """What Kubernetes would refuse, one line each."""
    import kubernetes_validate

    problems = []
    for document in documents:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
            problems.append(f"{name} with Kubernetes {version}: {str(error).splitlines()[0]}")
    return problems


def promtool(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """One run of promtool; None where it is not installed."""
    program = tool("promtool")
    if program is None:
        return None
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
