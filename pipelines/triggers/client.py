"""KFP's own client, opened quietly and once, its errors in words that name the remedy."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import kfp
import kfp_server_api
import urllib3
import yaml
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kubernetes.config import ConfigException, kube_config
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME

from pipelines.options import Connection
from pipelines.triggers.errors import ClusterError

_TIMEOUT = (10, 60)  # seconds to connect and to answer; kfp's client has none, and waits for a silent host for ever
_WHERE = "give --host, or KF_PIPELINES_ENDPOINT"
_FORWARD = (
    "From outside the cluster: kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80, and --host"
    " http://localhost:8080"
)
_TOKEN = "give one that is valid with --token-file, or KF_PIPELINES_TOKEN"


class _Client(kfp.Client):
    """kfp's client, which asks once whether the API is there: five times, five seconds apart, help no wrong host."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        answer = self._healthz_api.healthz_service_get_healthz(_request_timeout=_TIMEOUT)
        kind = self._healthz_api.api_client.last_response.getheader("content-type") or ""
        if "json" not in kind:
            raise ClusterError(
                f"{self.host}: answers with {kind or 'nothing'}, not as KFP's API does; {_WHERE} with the path of its API"
                f" (such as https://kubeflow.example/pipeline). If that is a log-in page, {_TOKEN}"
            )
        return answer

    def limit_waiting(self) -> None:
        """Let no later request wait for ever."""
        rest = self._healthz_api.api_client.rest_client  # one for all of the client's APIs
        send = rest.request

        def request(*arguments: Any, _request_timeout: Any = None, **options: Any) -> Any:
            return send(*arguments, _request_timeout=_request_timeout or _TIMEOUT, **options)

        rest.request = request

    @property
    def host(self) -> str:
        """The API's URL."""
        return str(self._existing_config.host)


@dataclass(frozen=True)
class Cluster:
    """An open connection. `namespace` is the runs', None where KFP serves one only; `ui` is the UI's URL or empty."""

    client: Any
    host: str
    namespace: str | None
    ui: str

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Say errors of KFP's client in words: "`what`: what went wrong; the remedy". Its own printing is dropped."""
        with _in_words(what, self.host), contextlib.redirect_stdout(io.StringIO()):
            yield

    def link(self, kind: str, identifier: str) -> str:
        """Where the UI shows a run (`runs`) or recurring run (`recurringrun`); its id where the UI's URL is not known."""
        return f"{self.ui}/#/{kind}/details/{identifier}" if self.ui else identifier


def connect(options: Connection) -> Cluster:
    """A connection that was tried. Raises ClusterError, which names the remedy, if KFP's API is not there."""
    for option, path in (("--token-file", options.token_file), ("--ca", options.ca)):
        if path and not path.is_file():
            raise ClusterError(f"{option} {path}: there is no such file")
    if not options.host:
        _check_found_without_host(options)
    credentials = ServiceAccountTokenVolumeCredentials(str(options.token_file)) if options.token_file else None
    where = options.host or f"the cluster of the pod or kubeconfig, KFP in namespace {options.kfp_namespace}"
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    with (
        _in_words("Kubeflow Pipelines", where),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        client = _Client(
            host=options.host or None,
            namespace=options.kfp_namespace,
            existing_token=options.token or None,
            credentials=credentials,
            ssl_ca_cert=str(options.ca) if options.ca else None,
            kube_context=options.kube_context or None,
            ui_host=options.ui_host or None,
        )
        client.limit_waiting()
        client.get_kfp_healthz()
    namespace = options.namespace or client.get_user_namespace() or None
    return Cluster(client, client.host, namespace, (options.ui_host or options.host).rstrip("/"))


def _check_found_without_host(options: Connection) -> None:
    """Raise ClusterError if kfp's client would end at localhost, as it does where it finds neither a pod nor a kubeconfig."""
    if options.token:
        raise ClusterError(
            f"--token: with one, kfp's client looks at no pod or kubeconfig; {_WHERE} as well. {_FORWARD}"
        )
    if os.environ.get(SERVICE_HOST_ENV_NAME):  # in a pod
        return
    where = kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    try:
        found = kube_config.KubeConfigMerger(where).config
    except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise ClusterError(f"kubeconfig {where}: cannot be read ({error}); correct it, or {_WHERE}") from error
    if found is None:
        raise ClusterError(f"Kubeflow Pipelines: no --host is given, and there is no kubeconfig {where}; {_WHERE}")
    contexts = sorted(item["name"] for item in found.value["contexts"])
    known = f"the kubeconfig {where} has {', '.join(contexts) or 'none at all'}"
    wanted = options.kube_context or found.value.get("current-context")
    if not wanted:
        raise ClusterError(f"--kube-context: is not given, and no context is the current one; {known}")
    if wanted not in contexts:
        raise ClusterError(f"--kube-context {wanted}: there is no such context; {known}")


@contextlib.contextmanager
def _in_words(what: str, where: str) -> Iterator[None]:
    try:
        yield
    except kfp_server_api.ApiException as error:
        raise ClusterError(f"{what}: {where} {_refusal(error)}") from error
    except ValueError as error:  # kfp's own: several experiments of one name, a damaged answer
        raise ClusterError(f"{what}: {where}: {error}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        cause = _cause(error)
        remedy = "give its CA with --ca" if "CERTIFICATE_VERIFY_FAILED" in cause else f"{_WHERE}. {_FORWARD}"
        raise ClusterError(f"{what}: {where} cannot be reached ({cause}); {remedy}") from error


def _refusal(error: kfp_server_api.ApiException) -> str:
    said = _said(error)
    if error.status == 401:
        return f"refuses the token (401: {said}); {_TOKEN}"
    if error.status == 403:
        return f"does not allow it (403: {said}); ask for the right, or give another --namespace or token"
    if error.status >= 500:
        return f"has trouble of its own ({error.status}: {said}); look at the log of its API server"
    return f"refuses it ({error.status}: {said})"


def _said(error: kfp_server_api.ApiException) -> str:
    """The server's message alone, of an answer that is JSON, a page or nothing."""
    body = str(error.body or error.reason or "").strip()
    try:
        answer = json.loads(body)
    except ValueError:
        return body.splitlines()[0][:300] if body else "no reason given"
    if not isinstance(answer, dict):
        return body[:300]
    return str(answer.get("message") or answer.get("error_message") or answer.get("error") or body)[:1000]


def _cause(error: BaseException) -> str:
    """The innermost reason of a connection that failed."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _cause(reason)
    return str(error).rpartition(">: ")[2] or type(error).__name__
