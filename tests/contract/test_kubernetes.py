"""k8s/: both overlays fit Kubernetes' schemas, pods have no rights that they do not need, secrets are references, and policies name pods that exist."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from prefect.utilities.templating import apply_values

from tests.infra.validators import INFRA, KUBERNETES, OVERLAYS, against_schema, rendered, tool

pytestmark = pytest.mark.skipif(tool("kubectl") is None, reason="no kubectl here; `make setup` installs it")
NAME = "app.kubernetes.io/name"
SECRETS = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=$", (INFRA / "env.example").read_text(encoding="utf-8"), re.M))
JOB = json.loads((INFRA / "k8s/job-template.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def manifests(overlay: str) -> list[dict[str, Any]]:
    return rendered(overlay)


def job() -> dict[str, Any]:
    """A job as Prefect's worker makes it from the template, with the defaults of its variables."""
    defaults = {name: each["default"] for name, each in JOB["variables"]["properties"].items() if "default" in each}
    values = {**defaults, "name": "cycle", "image": "redistill", "labels": {"a": "b"}, "command": ["prefect", "flow-run", "execute"]}
    manifest: dict[str, Any] = apply_values(copy.deepcopy(JOB["job_configuration"]["job_manifest"]), values)
    return manifest


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m["spec"]["template"] for m in manifests if m["kind"] in ("Deployment", "StatefulSet")}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_manifest(manifests: list[dict[str, Any]], version: str) -> None:
    assert against_schema(manifests, version) == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_a_job_of_the_work_pool(version: str) -> None:
    assert against_schema([job()], version) == []


def test_the_schemas_find_a_misspelt_field_and_a_wrong_type(manifests: list[dict[str, Any]]) -> None:
    wrong = [copy.deepcopy(m) for m in manifests if m["kind"] == "Deployment"]
    wrong[0]["spec"]["replica"] = 1
    wrong[1]["spec"]["replicas"] = "one"
    assert len(against_schema(wrong, KUBERNETES[-1])) == 2


def test_no_pod_is_root_can_write_its_image_or_has_a_token_of_the_cluster(manifests: list[dict[str, Any]]) -> None:
    for name, pod in {**pods(manifests), "job": job()["spec"]["template"]}.items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        [container] = spec["containers"]
        rights = container["securityContext"]
        assert rights == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, name
        assert {"/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}, "libraries write their caches there"
        assert {"name": "HOME", "value": "/tmp"} in container["env"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"} and "memory" in container["resources"]["limits"]
        mounted, volumes = {mount["name"] for mount in container["volumeMounts"]}, {volume["name"] for volume in spec["volumes"]}
        assert mounted == volumes


def test_every_pod_has_probes(manifests: list[dict[str, Any]]) -> None:
    for name, pod in pods(manifests).items():
        [container] = pod["spec"]["containers"]
        probes = {kind for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in container}
        # Nobody calls the runner. The student's server waits for the first promotion, which is no fault.
        expected = {"runner": {"startupProbe", "livenessProbe"}, "student": {"readinessProbe"}}
        assert probes == expected.get(name, {"startupProbe", "readinessProbe", "livenessProbe"}), name


def test_secrets_are_references_to_keys_of_env_example(manifests: list[dict[str, Any]]) -> None:
    assert not [m for m in manifests if m["kind"] == "Secret"]
    keys = set()
    for pod in (*pods(manifests).values(), job()["spec"]["template"]):
        [container] = pod["spec"]["containers"]
        for variable in container["env"]:
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None:
                assert reference["name"] == "redistill"
                keys.add(reference["key"])
            elif re.search("KEY|PASSWORD|SECRET|AUTH_STRING", variable["name"]):
                assert re.fullmatch(r"admin:\$\(PREFECT_PASSWORD\)", variable["value"]), variable
    assert keys <= SECRETS, keys - SECRETS


def test_a_variable_is_defined_before_it_is_used(manifests: list[dict[str, Any]]) -> None:
    """Kubernetes replaces $(NAME) only by what stands above it, and leaves it as it is otherwise."""
    for name, pod in pods(manifests).items():
        seen: set[str] = set()
        for variable in pod["spec"]["containers"][0]["env"]:
            assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= seen, (name, variable)
            seen.add(variable["name"])


def test_policies_deny_first_and_then_name_pods_that_exist(manifests: list[dict[str, Any]]) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}
    names = {pod["metadata"]["labels"][NAME] for pod in (*pods(manifests).values(), job()["spec"]["template"])}
    nothing = policies.pop("nothing")
    assert nothing["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & set(nothing)

    def selected(node: object) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(selected, node)) if node else set()
        if not isinstance(node, dict):
            return set()
        here = {node["matchLabels"][NAME]} if NAME in node.get("matchLabels", {}) else set()
        here |= {value for each in node.get("matchExpressions", ()) if each["key"] == NAME for value in each["values"]}
        return here.union(*map(selected, node.values()))

    assert selected(policies) == names
    for service in (m for m in manifests if m["kind"] == "Service" and "selector" in m["spec"]):
        [port] = service["spec"]["ports"]
        entry = policies[service["metadata"]["name"]]["ingress"][0]
        assert {"port": port["port"]} in entry["ports"], service["metadata"]["name"]


def test_services_lead_to_the_ports_of_their_pods(manifests: list[dict[str, Any]]) -> None:
    for service in (m for m in manifests if m["kind"] == "Service" and "selector" in m["spec"]):
        pod = pods(manifests)[service["metadata"]["name"]]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[service["spec"]["ports"][0]["targetPort"]] == service["spec"]["ports"][0]["port"]


def test_only_several_nodes_have_budgets_and_a_shared_volume() -> None:
    one, team = ({(m["kind"], m["metadata"]["name"]): m["spec"] for m in rendered(name) if "spec" in m} for name in OVERLAYS)
    assert not [kind for kind, _ in one if kind == "PodDisruptionBudget"]
    assert {name for kind, name in team if kind == "PodDisruptionBudget"} == {"router", "runner"}
    volume = ("PersistentVolumeClaim", "project")
    assert (one[volume]["accessModes"], team[volume]["accessModes"]) == (["ReadWriteOnce"], ["ReadWriteMany"])
    # Two of these would write the same files.
    assert all(
        spec["replicas"] == 1
        for kind, spec in [(k, s) for (k, _), s in (*one.items(), *team.items())]
        if kind in ("Deployment", "StatefulSet")
    )


def test_the_team_has_the_accounts_of_compose_and_no_database_in_a_file() -> None:
    assert (INFRA / "k8s/overlays/team/mlflow-auth.ini").read_bytes() == (INFRA / "mlflow-auth.ini").read_bytes()
    assert "sqlite" not in json.dumps(rendered("team")) and "sqlite" in json.dumps(rendered("one-node"))


def test_images_are_the_two_of_the_containerfile(manifests: list[dict[str, Any]]) -> None:
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in pods(manifests).items()}
    small, large = "registry.example/redistill-services:latest", "registry.example/redistill:latest"
    assert images == {"prefect": small, "mlflow": small, "router": small, "runner": large, "student": large}
