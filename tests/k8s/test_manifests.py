"""The manifests: every overlay is sound, and one fault of each kind, planted in a copy, is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.shared.images import ROLES
from components.training.trainjob.manifest import NODE
from k8s.check.__main__ import check, main
from k8s.check.manifests import Rendered, RenderFailed, render, render_overlay
from k8s.check.references import External
from k8s.check.schemas import Schemas, custom_schemas, exported_schemas
from pipelines.closing.settings import NotificationSettings
from pipelines.pods.settings import ClusterSettings
from pipelines.settings import build_settings, load_preset, preset_names

ROOT = Path(__file__).parents[2] / "k8s"
DOCKERFILE = ROOT.parent / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return custom_schemas()


@pytest.fixture(scope="module")
def rendered() -> dict[str, Rendered]:
    return {overlay.overlay: overlay for overlay in render(ROOT)}


def test_every_overlay_is_sound(rendered: dict[str, Rendered], schemas: Schemas) -> None:
    assert set(rendered) >= {"one-machine", "cpu", "gpu", "kubeflow"}  # a folder of your own may lie beside them
    external = External.read(ROOT)
    faults = {name: list(check(overlay, external, DOCKERFILE, schemas)) for name, overlay in rendered.items()}
    assert faults == {name: [] for name in rendered}


FAULTS = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text())


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found(tmp_path: Path, schemas: Schemas, kind: str) -> None:
    file, good, bad, words = (FAULTS[kind][name] for name in ("in", "stands", "planted", "words"))
    copy = tmp_path / "k8s"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("check"))
    text = (copy / file).read_text()
    assert good in text
    (copy / file).write_text(text.replace(good, bad))
    faults = list(check(render_overlay(copy / "overlays" / "gpu"), External.read(copy), DOCKERFILE, schemas))
    assert faults and any(words in fault for fault in faults), faults


def test_an_overlay_that_does_not_render_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "k8s"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("check"))
    (copy / "base" / "mlflow.yaml").unlink()
    with pytest.raises(RenderFailed, match=r"mlflow\.yaml"):
        render(copy)


def test_without_kubectl_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(ROOT)]) == 2


def test_a_clusters_own_crds_are_checked_as_well(
    tmp_path: Path, rendered: dict[str, Rendered], schemas: Schemas
) -> None:
    schema = {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {"queue": {"type": "string"}}},
        },
    }
    crd = {
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": "kueue.x-k8s.io",
            "names": {"kind": "LocalQueue"},
            "versions": [{"name": "v1beta2", "schema": {"openAPIV3Schema": schema}}],
        },
    }
    (tmp_path / "crds.yaml").write_text(yaml.safe_dump({"kind": "List", "items": [crd]}))
    found = list(check(rendered["gpu"], External.read(ROOT), DOCKERFILE, schemas, exported_schemas(tmp_path)))
    assert found and all("LocalQueue" in fault and "'clusterQueue' was unexpected" in fault for fault in found)


def test_the_settings_defaults_are_names_that_the_manifests_know(rendered: dict[str, Rendered]) -> None:
    external, cluster = External.read(ROOT), ClusterSettings()
    assert {cluster.store_secret, cluster.tracking_secret, cluster.hub_secret} <= set(external.secrets)
    assert cluster.store_config in rendered["gpu"].names("ConfigMap")
    assert cluster.training_runtime in rendered["gpu"].names("ClusterTrainingRuntime")
    assert cluster.gpu_tolerations == tuple(taint.replace("=present", "") for taint in external.taints)
    settings = [build_settings(load_preset(name)) for name in preset_names()]
    pods = [pod for item in settings for pod in (item.light_pods, item.generation_pods, item.training_pods)]
    assert {pod.queue for pod in pods} - {""} == {"deepvideo-gpu"}
    assert rendered["gpu"].names("LocalQueue") >= {"deepvideo-gpu"}


def test_quota_and_queue_let_the_presets_pods_in(rendered: dict[str, Rendered]) -> None:
    (quota,) = rendered["gpu"].of("ResourceQuota")
    (queue,) = (item for item in rendered["gpu"].of("ClusterQueue") if item["metadata"]["name"] == "deepvideo-gpu")
    (flavor,) = queue["spec"]["resourceGroups"][0]["flavors"]
    allowed = {item["name"]: item["nominalQuota"] for item in flavor["resources"]}
    for name in ("paper-3b", "paper-7b"):
        pods = build_settings(load_preset(name)).training_pods
        for limits in (allowed, {key: quota["spec"]["hard"][f"requests.{key}"] for key in allowed}):
            assert int(limits["nvidia.com/gpu"]) >= 2 * pods.gpu_count  # as many nodes as the README tries
            assert gibibytes(limits["memory"]) >= 2 * gibibytes(pods.memory)
            assert int(limits["cpu"]) >= 2 * int(pods.cpu)


def test_a_trainjobs_node_fails_once_and_its_account_gives_it_no_token(rendered: dict[str, Rendered]) -> None:
    (runtime,) = rendered["gpu"].of("ClusterTrainingRuntime")
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert job["name"] == pod["containers"][0]["name"] == NODE
    assert job["template"]["spec"]["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False  # TrainJobs name the run's account, which may make TrainJobs


def test_the_last_task_reaches_the_mail_server_of_the_settings(rendered: dict[str, Rendered]) -> None:
    (policy,) = (item for item in rendered["gpu"].of("NetworkPolicy") if item["metadata"]["name"] == "notices")
    assert NotificationSettings().smtp_port in [port["port"] for port in policy["spec"]["egress"][0]["ports"]]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "closing"}


def test_the_runs_account_may_do_what_steps_ask_of_the_api(rendered: dict[str, Rendered]) -> None:
    (role,) = rendered["gpu"].of("Role")
    (of_nodes,) = rendered["gpu"].of("ClusterRole")
    rules = [*role["rules"], *of_nodes["rules"]]
    rights = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert rights >= {("trainjobs", verb) for verb in ("create", "get", "patch", "delete")}
    assert rights >= {("pods", "get"), ("pods", "list"), ("pods/log", "get"), ("nodes", "list")}


def gibibytes(text: str) -> int:
    return int(text[:-2]) * {"Gi": 1, "Ti": 1024}[text[-2:]]


def test_kfps_api_server_is_told_where_mlflow_is(rendered: dict[str, Rendered]) -> None:
    (config,) = rendered["kubeflow"].of("ConfigMap")
    (server,) = rendered["kubeflow"].of("Deployment")
    mlflow = json.loads(config["data"]["config.json"])["plugins"]["mlflow"]
    (space,) = rendered["gpu"].names("Namespace")
    (service,) = (item for item in rendered["gpu"].of("Service") if item["metadata"]["name"] == "mlflow")
    assert mlflow["endpoint"] == f"http://mlflow.{space}.svc.cluster.local:{service['spec']['ports'][0]['port']}"
    pod = server["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]  # with kustomize's digest
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/config/config.json"


@pytest.mark.parametrize("role", ROLES)
def test_every_steps_image_is_built(role: str) -> None:
    assert f" AS {role}\n" in DOCKERFILE.read_text()


def test_mlflow_answers_to_its_names_in_the_cluster_and_to_no_other(rendered: dict[str, Rendered]) -> None:
    (config,) = (item for item in rendered["gpu"].of("ConfigMap") if item["metadata"]["name"] == "mlflow")
    allowed = config["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    own = ["mlflow:5000", "mlflow.deepvideo:5000", "mlflow.deepvideo.svc.cluster.local:5000", "localhost:5000"]
    script = """
import json, sys
from mlflow.server.security_utils import is_allowed_host_header
allowed, hosts = json.load(sys.stdin)
print(json.dumps([is_allowed_host_header(allowed, host) for host in hosts]))
"""  # in a process of its own: Flask's globals, once imported, end vLLM's start in this one
    answered = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([allowed, [*own, "evil.example:5000"]]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(answered.stdout) == [True] * len(own) + [False]
