"""Names that one object takes from another, and selectors: each must lead to something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k8s.check.manifests import Rendered, containers, where
from pipelines.pods.placing import PART_OF
from pipelines.pods.settings import STEPS


@dataclass(frozen=True)
class External:
    """What the manifests need and do not bring (`k8s/external.yaml`)."""

    secrets: Mapping[str, list[str]]
    configMaps: Mapping[str, list[str]]  # noqa: N815  the file's own spelling, which is Kubernetes'
    namespaces: list[str]
    pods: list[dict[str, str]]
    nodes: list[dict[str, str]]
    taints: list[str]
    images: list[str]

    @classmethod
    def read(cls, root: Path) -> External:
        """From the file in the manifests' folder."""
        return cls(**yaml.safe_load((root / "external.yaml").read_text()))


def check_names(rendered: Rendered, external: External) -> Iterator[str]:
    """Names of objects, and keys in them, that are neither in the overlay nor external."""
    secrets = dict(external.secrets)
    maps = {
        **external.configMaps,
        **{item["metadata"]["name"]: list(item["data"]) for item in rendered.of("ConfigMap")},
    }
    for place, _, pod in rendered.pods():
        yield from _unknown(place, "ServiceAccount", pod.get("serviceAccountName"), rendered.names("ServiceAccount"))
        yield from _unknown(place, "PriorityClass", pod.get("priorityClassName"), rendered.names("PriorityClass"))
        mounts = {mount["name"] for item in containers(pod) for mount in item.get("volumeMounts", ())}
        for name in mounts - {volume["name"] for volume in pod.get("volumes", ())}:
            yield f"{place}: mounts the volume {name!r}, which the pod does not have"
        for volume in pod.get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            yield from _unknown(place, "PersistentVolumeClaim", claim, rendered.names("PersistentVolumeClaim"))
            yield from _unknown(place, "ConfigMap", volume.get("configMap", {}).get("name"), maps)
            yield from _unknown(place, "Secret", volume.get("secret", {}).get("secretName"), secrets)
        for container in containers(pod):
            yield from _environment(place, container, secrets, maps)
    yield from _roles(rendered, secrets, maps)
    yield from _queues(rendered)
    for item in rendered.of("ConfigMap"):
        for text in re.findall(r"secretName: (\S+)", item["data"].get("providers", "")):
            yield from _unknown(where(item), "Secret", text, secrets)


def _unknown(place: str, kind: str, name: Any, known: Any) -> Iterator[str]:
    if name is not None and name not in known:
        yield f"{place}: there is no {kind} {name!r}"


def _environment(
    place: str, container: dict[str, Any], secrets: Mapping[str, list[str]], maps: Mapping[str, list[str]]
) -> Iterator[str]:
    defined = {item["name"] for item in container.get("env", ())}
    for item in container.get("env", ()):
        source = item.get("valueFrom", {})
        for kind, reference, known in (
            ("Secret", source.get("secretKeyRef"), secrets),
            ("ConfigMap", source.get("configMapKeyRef"), maps),
        ):
            if reference:
                yield from _unknown(place, kind, reference["name"], known)
                if reference["key"] not in known.get(reference["name"], [reference["key"]]):
                    yield f"{place}: {kind} {reference['name']!r} has no key {reference['key']!r}"
        for name in re.findall(r"\$\(([A-Za-z_]\w*)\)", item.get("value", "")):
            if name not in defined:
                yield f"{place}: {item['name']} takes $({name}), which is not defined"
    for item in container.get("envFrom", ()):
        yield from _unknown(place, "Secret", item.get("secretRef", {}).get("name"), secrets)
        yield from _unknown(place, "ConfigMap", item.get("configMapRef", {}).get("name"), maps)


def _roles(rendered: Rendered, secrets: Any, maps: Any) -> Iterator[str]:
    for item in [*rendered.of("RoleBinding"), *rendered.of("ClusterRoleBinding")]:
        kind = item["roleRef"]["kind"]
        yield from _unknown(where(item), kind, item["roleRef"]["name"], rendered.names(kind))
        for subject in item["subjects"]:
            yield from _unknown(where(item), subject["kind"], subject["name"], rendered.names(subject["kind"]))
    known = {"secrets": ("Secret", secrets), "configmaps": ("ConfigMap", maps)}
    for item in rendered.of("Role"):
        for rule in item["rules"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", ()):
                    kind, names = known[resource]
                    yield from _unknown(where(item), kind, name, names)


def _queues(rendered: Rendered) -> Iterator[str]:
    for item in rendered.of("LocalQueue"):
        yield from _unknown(where(item), "ClusterQueue", item["spec"]["clusterQueue"], rendered.names("ClusterQueue"))
    for item in rendered.of("ClusterQueue"):
        for group in item["spec"]["resourceGroups"]:
            for flavor in group["flavors"]:
                yield from _unknown(where(item), "ResourceFlavor", flavor["name"], rendered.names("ResourceFlavor"))
                listed = [resource["name"] for resource in flavor["resources"]]
                if listed != group["coveredResources"]:
                    yield f"{where(item)}: flavor {flavor['name']!r} has quotas for {listed}, covered are others"


def check_selectors(rendered: Rendered, external: External) -> Iterator[str]:
    """Selectors, and ports named with them, that no pod, namespace or node has."""
    own = [(labels, pod) for _, labels, pod in rendered.pods()]
    made = [{"app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/component": step} for step in STEPS]
    made = [{**labels, "pipelines.kubeflow.org/v2_component": "true"} for labels in made]
    pods = [labels for labels, _ in own] + made + external.pods
    spaces = [
        item["metadata"].get("labels", {}) | _named(item["metadata"]["name"]) for item in rendered.of("Namespace")
    ]
    spaces += [_named(name) for name in external.namespaces]

    def ports_of(selector: Mapping[str, str]) -> set[Any]:
        return {
            value
            for labels, pod in own
            if _matches(selector, labels)
            for container in containers(pod)
            for port in container.get("ports", ())
            for value in (port.get("name"), port["containerPort"])
        }

    for item in rendered.of("Service"):
        selector = item["spec"]["selector"]
        if not any(_matches(selector, labels) for labels, _ in own):
            yield f"{where(item)}: selector {selector} matches no pod"
            continue
        for port in item["spec"]["ports"]:
            if port.get("targetPort", port["port"]) not in ports_of(selector):
                yield f"{where(item)}: no selected pod has the port {port.get('targetPort', port['port'])!r}"
    for kind in ("Deployment", "StatefulSet"):
        for item in rendered.of(kind):
            labels = item["spec"]["template"]["metadata"]["labels"]
            if not _matches(item["spec"]["selector"]["matchLabels"], labels):
                yield f"{where(item)}: its selector does not match its own pods"
    for item in rendered.of("NetworkPolicy"):
        for selector in _selectors(item["spec"], "podSelector"):
            if not any(_matches(selector, labels) for labels in pods):
                yield f"{where(item)}: podSelector {selector} matches no pod"
        for selector in _selectors(item["spec"], "namespaceSelector"):
            if not any(_matches(selector, labels) for labels in spaces):
                yield f"{where(item)}: namespaceSelector {selector} matches no namespace"
        yield from _policy_ports(item, ports_of)
    for item in rendered.of("ClusterQueue"):
        for selector in _selectors(item["spec"], "namespaceSelector"):
            if not any(_matches(selector, labels) for labels in spaces):
                yield f"{where(item)}: namespaceSelector {selector} matches no namespace"
    nodes = [(where(item), item.get("spec", {}).get("nodeLabels", {})) for item in rendered.of("ResourceFlavor")]
    for place, selector in [*nodes, *((place, pod.get("nodeSelector", {})) for place, _, pod in rendered.pods())]:
        if not any(_matches(selector, labels) for labels in [{}, *external.nodes]):
            yield f"{place}: node selector {selector} matches no node that external.yaml names"


def _policy_ports(item: dict[str, Any], ports_of: Any) -> Iterator[str]:
    """Named ports of a policy that no pod on its server's side has."""
    own = item["spec"]["podSelector"].get("matchLabels", {})
    for rule in item["spec"].get("ingress", ()):
        for port in rule.get("ports", ()):
            if isinstance(port["port"], str) and port["port"] not in ports_of(own):
                yield f"{where(item)}: no selected pod has the port {port['port']!r}"
    for rule in item["spec"].get("egress", ()):
        servers = [peer.get("podSelector", {}).get("matchLabels", {}) for peer in rule.get("to", ())]
        for port in rule.get("ports", ()):
            if isinstance(port["port"], str) and not any(port["port"] in ports_of(server) for server in servers):
                yield f"{where(item)}: no pod it goes to has the port {port['port']!r}"


def _named(namespace: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": namespace}


def _matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _selectors(value: Any, name: str) -> Iterator[dict[str, str]]:
    """The labels of every selector of that name below a value."""
    if isinstance(value, dict):
        if name in value:
            yield value[name].get("matchLabels", {})
        for below in value.values():
            yield from _selectors(below, name)
    elif isinstance(value, list):
        for below in value:
            yield from _selectors(below, name)
