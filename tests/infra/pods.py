"""Runs the pods of a kustomize overlay with podman, as their manifests say: user, read-only root, environment, volumes, host names.

It takes the place of a cluster for what a manifest tells a container. Probes are asked once, when a pod starts. Network policies, budgets and limits have no effect here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.infra.engine import podman, wait_for
from tests.infra.validators import rendered

NETWORK = "redistill-pods"


class Pods:
    """The pods of one overlay.

    ``images`` are by the name in the base, ``secret`` holds the keys of the Secret, ``volumes`` are folders for some claims; the other claims get named volumes. ``changed`` replaces values of ConfigMaps, as an overlay of a user does.
    """

    def __init__(
        self,
        overlay: str,
        folder: Path,
        images: Mapping[str, str],
        secret: Mapping[str, str],
        volumes: Mapping[str, Path],
        changed: Mapping[str, str],
    ) -> None:
        documents = rendered(overlay)
        self._folder, self._images, self._secret, self._volumes = folder, images, secret, volumes
        self._maps = {d["metadata"]["name"]: {**d["data"], **{k: v for k, v in changed.items() if k in d["data"]}} for d in documents if d["kind"] == "ConfigMap"}  # fmt: skip
        self._pods = {d["metadata"]["name"]: d for d in documents if d["kind"] in ("Deployment", "StatefulSet")}

    def start(self, name: str) -> None:
        """Start a pod, and wait until its probes answer."""
        pod = self._pods[name]
        spec = pod["spec"]["template"]["spec"]
        [container] = spec["containers"]
        security, user = container["securityContext"], spec["securityContext"]
        assert security == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        arguments = ["run", "-d", "--name", f"{NETWORK}-{name}", "--network", NETWORK, "--network-alias", name]
        arguments += [
            "--hostname",
            f"{name}-0" if pod["kind"] == "StatefulSet" else f"{name}-pod",
            "--user",
            f"{user['runAsUser']}:{user['runAsGroup']}",
        ]
        arguments += ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        for key, value in self._environment(container).items():
            arguments += ["--env", f"{key}={value}"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            arguments += self._mount(volumes[mount["name"]], mount)
        # The container's image keeps its entry point where the manifest gives only arguments.
        podman(*arguments, self._image(container["image"]), *container["args"])
        for kind in ("startupProbe", "readinessProbe"):
            if kind in container:
                wait_for(lambda probe=container[kind]["httpGet"]: self._answers(name, container, probe), f"the {kind} of {name}", 600)

    def address(self, name: str, port: int) -> str:
        """The address of a pod, from this machine."""
        shown = podman(
            "inspect", "--format", '{{(index .NetworkSettings.Networks "' + NETWORK + '").IPAddress}}', f"{NETWORK}-{name}"
        ).stdout
        return f"http://{shown.strip()}:{port}"

    def logs(self) -> str:
        return "".join(f"--- {name}\n{podman('logs', '--tail', '40', f'{NETWORK}-{name}', check=False).stderr}" for name in self._pods)

    def _image(self, image: str) -> str:
        return self._images[image.rpartition("/")[2].partition(":")[0]]

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        values: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            values |= self._maps[source["configMapRef"]["name"]]
        for entry in container.get("env", ()):
            if "value" in entry:
                values[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], str(entry["value"]))
                continue
            reference = entry["valueFrom"]["secretKeyRef"]
            if reference["key"] in self._secret:
                values[entry["name"]] = self._secret[reference["key"]]
            else:
                assert reference.get("optional"), f"the Secret has no {reference['key']}"
        return values

    def _mount(self, volume: Mapping[str, Any], mount: Mapping[str, Any]) -> list[str]:
        at = mount["mountPath"]
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            return ["-v", f"{self._volumes.get(claim, f'{NETWORK}-{claim}')}:{at}"]
        if "configMap" in volume:
            folder = self._folder / volume["configMap"]["name"]
            folder.mkdir(exist_ok=True)
            for name, text in self._maps[volume["configMap"]["name"]].items():
                (folder / name).write_text(text, encoding="utf-8")
            return ["-v", f"{folder}:{at}:ro"]
        assert "emptyDir" in volume
        return ["--shm-size", "1g"] if at == "/dev/shm" else ["--mount", f"type=tmpfs,destination={at},tmpfs-mode=1777"]

    def _answers(self, name: str, container: Mapping[str, Any], probe: Mapping[str, Any]) -> bool:
        running = podman("inspect", "--format", "{{.State.Running}}", f"{NETWORK}-{name}").stdout.strip()
        assert running == "true", f"{name} ended:\n{podman('logs', '--tail', '40', f'{NETWORK}-{name}', check=False).stderr}"
        [port] = [p["containerPort"] for p in container["ports"] if p["name"] == probe["port"]]
        url = f"http://127.0.0.1:{port}{probe['path']}"
        return podman("exec", f"{NETWORK}-{name}", "python", "/opt/redistill/infra/healthy.py", url, check=False).returncode == 0


@contextmanager
def pods(*arguments: Any) -> Iterator[Pods]:
    """The pods of an overlay and what they need, while the block runs."""
    _remove()  # what a run that was interrupted left
    podman("network", "create", NETWORK)
    running = Pods(*arguments)
    try:
        yield running
    finally:
        print(running.logs())
        _remove()


def _remove() -> None:
    names = podman("ps", "--all", "--format", "{{.Names}}", "--filter", f"name=^{NETWORK}-").stdout.split()
    if names:
        podman("rm", "--force", "--volumes", "--time", "10", *names)
    volumes = podman("volume", "ls", "--quiet", "--filter", f"name={NETWORK}-").stdout.split()
    if volumes:
        podman("volume", "rm", *volumes)
    podman("network", "rm", NETWORK, check=False)
