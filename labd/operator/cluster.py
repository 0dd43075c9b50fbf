"""The cluster's API: how it is reached, its TestRuns, and what it says when it does not do as asked."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labd.operator.testrun import CRD, GROUP, KIND, PLURAL, VERSION, TestRun

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

ANSWER_S = (5.0, 15.0)
"""How long the API server may take to accept a connection, and to answer."""
WATCH_S = 60
"""How long one watch lasts."""
PAGE = 50
"""TestRuns in one answer: each may have a script of 256 KiB."""
INSTALL = "labd operator --print-crd | kubectl apply -f -"
_MERGE = "application/merge-patch+json"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ClusterError(Exception):
    """The cluster cannot be used as asked; the text is fit for a user."""


class ClusterAway(ClusterError):
    """The API server does not answer, or not now: the same may go well later."""


class Missing(ClusterError):
    """There is no such object."""


class Changed(ClusterError):
    """The object is another by now, or there is one of that name (409)."""


class Expired(ClusterError):
    """The API server does not know any more what happened since then (410)."""


class NotAllowed(ClusterError):
    """Whoever asks may not do this, or is nobody to the API server."""


class Rejected(ClusterError):
    """The API server takes no such object."""


class NoCrd(ClusterError):
    """The cluster knows no TestRuns."""

    def __init__(self) -> None:
        super().__init__(f"the cluster knows no TestRuns ({CRD}); install them with: {INSTALL}")


class Place:
    """An API server, and the namespace to work in unless told otherwise."""

    def __init__(self, api: "ApiClient", namespace: str, where: str) -> None:
        self.api = api
        self.namespace = namespace
        self.where = where
        """Of the API server, for messages."""


def connect(kubeconfig: str | None = None, context: str | None = None) -> Place:
    """The cluster of a kubeconfig (that file, or KUBECONFIG, or ~/.kube/config), or else the one around this pod.

    Raises ClusterError when there is none, or it makes no sense.
    """
    from kubernetes import client, config
    from yaml import YAMLError

    configuration = client.Configuration()
    configuration.retries = 0  # who asks asks again
    found = kubeconfig or os.environ.get("KUBECONFIG") or config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if inside and not (kubeconfig or context or _exists(found)):
            config.load_incluster_config(client_configuration=configuration)
            namespace = (_ACCOUNT / "namespace").read_text("utf-8").strip()
        elif not _exists(found):
            raise ClusterError(f"there is no kubeconfig {found}: name one with --kubeconfig or KUBECONFIG")
        else:
            contexts, chosen = config.list_kube_config_contexts(found)
            if context is not None:
                chosen = next((one for one in contexts if one["name"] == context), None)
                if chosen is None:
                    names = ", ".join(one["name"] for one in contexts)
                    raise ClusterError(f"the kubeconfig {found} has no context {context!r}, but: {names}")
            config.load_kube_config(found, context, configuration, persist_config=False)
            namespace = chosen["context"].get("namespace") or "default"
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"the kubeconfig {found} cannot be used: {error}") from error
    except (YAMLError, TypeError, AttributeError, KeyError) as error:  # what the library raises for other contents
        text = f"the kubeconfig {found} cannot be used: it is no YAML of the kind Config (v1)"
        raise ClusterError(text) from error
    return Place(client.ApiClient(configuration), namespace, configuration.host)


def _exists(paths: str) -> bool:
    return any(Path(one).expanduser().is_file() for one in paths.split(os.pathsep))


class TestRuns:
    """The TestRuns of a cluster. Every method raises ClusterError."""

    __test__ = False

    def __init__(self, place: Place, answer_s: tuple[float, float] = ANSWER_S) -> None:
        from kubernetes import client

        self._place = place
        self._answer_s = answer_s
        self._api = client.CustomObjectsApi(place.api)

    def all(self, namespace: str | None = None) -> tuple[list[TestRun], str]:
        """Those of a namespace, or of all, and the version of the list, from which on to `watch`."""
        found: list[TestRun] = []
        more: str | None = None
        while True:
            page = self._listed(namespace, limit=PAGE, _continue=more, _request_timeout=self._answer_s)
            found += [TestRun(one) for one in page["items"]]
            more = page["metadata"].get("continue")
            if not more:
                return found, page["metadata"]["resourceVersion"]

    def watch(self, namespace: str | None, version: str, *, for_s: int = WATCH_S) -> Iterator[tuple[str, TestRun]]:
        """What happens after ``version``, for ``for_s``: ADDED, MODIFIED, DELETED or BOOKMARK, and the TestRun.

        A bookmark's has a version and nothing else.
        """
        from kubernetes.watch import Watch

        watch = Watch()
        function, words = self._lister(namespace)
        stream = watch.stream(
            function,
            **words,
            resource_version=version,
            timeout_seconds=for_s,
            allow_watch_bookmarks=True,
            _request_timeout=(self._answer_s[0], for_s + self._answer_s[1]),
        )
        try:
            while (event := self._asked(next, stream, None)) is not None:
                yield event["type"], TestRun(event["raw_object"])
        finally:
            stream.close()

    def get(self, namespace: str, name: str) -> TestRun:
        """One of them. Raises Missing."""
        return TestRun(
            self._asked(
                self._api.get_namespaced_custom_object,
                **_words(namespace),
                name=name,
                _request_timeout=self._answer_s,
            )
        )

    def create(self, namespace: str, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> TestRun:
        """Adds one. Raises Changed when there is one of that name, Rejected when it makes no sense."""
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": dict(metadata), "spec": dict(spec)}
        try:
            made = self._asked(
                self._api.create_namespaced_custom_object,
                **_words(namespace),
                body=body,
                field_validation="Strict",
                _request_timeout=self._answer_s,
            )
        except Missing:
            self._listed(namespace, limit=1, _request_timeout=self._answer_s)  # raises NoCrd, if it is that
            raise
        return TestRun(made)

    def save_status(self, test: TestRun, change: Mapping[str, Any]) -> TestRun:
        """Merges the change into its status, unless it is another by now (Changed)."""
        body = {"metadata": {"resourceVersion": test.version, "uid": test.uid}, "status": dict(change)}
        return self._patched(self._api.patch_namespaced_custom_object_status, test, body)

    def save_finalizers(self, test: TestRun, finalizers: list[str]) -> TestRun:
        """Gives it these finalizers, unless it is another by now (Changed)."""
        metadata = {"resourceVersion": test.version, "uid": test.uid, "finalizers": finalizers}
        return self._patched(self._api.patch_namespaced_custom_object, test, {"metadata": metadata})

    def remove(self, test: TestRun) -> None:
        """Deletes it, unless it is another by now (Changed). One that is gone is gone."""
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        try:
            self._asked(
                self._api.delete_namespaced_custom_object,
                **_words(test.namespace),
                name=test.name,
                body=V1DeleteOptions(preconditions=V1Preconditions(uid=test.uid, resource_version=test.version)),
                _request_timeout=self._answer_s,
            )
        except Missing:
            return

    def _patched(self, patch: Callable[..., Any], test: TestRun, body: Mapping[str, Any]) -> TestRun:
        words = _words(test.namespace)
        return TestRun(
            self._asked(
                patch, **words, name=test.name, body=body, _content_type=_MERGE, _request_timeout=self._answer_s
            )
        )

    def _lister(self, namespace: str | None) -> tuple[Callable[..., Any], dict[str, str]]:
        if namespace is None:
            return self._api.list_cluster_custom_object, {"group": GROUP, "version": VERSION, "plural": PLURAL}
        return self._api.list_namespaced_custom_object, _words(namespace)

    def _listed(self, namespace: str | None, **words: Any) -> Any:
        function, where = self._lister(namespace)
        try:
            return self._asked(function, **where, **{name: value for name, value in words.items() if value is not None})
        except Missing as error:  # an empty list is found: only a kind can be missing
            raise NoCrd from error

    def _asked(self, function: Callable[..., Any], *arguments: object, **words: object) -> Any:
        return asked(self._place.where, function, *arguments, **words)


def asked(where: str, function: Callable[..., Any], *arguments: object, **words: object) -> Any:
    """What the API server at ``where`` answers. Raises ClusterError for what the client raises."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        answer = function(*arguments, **words)
    except ApiException as error:
        raise _refusal(error, where) from error
    except (HTTPError, OSError) as error:
        raise ClusterAway(f"the API server at {where} cannot be reached: {_why(error)}") from error
    if isinstance(answer, str):  # what the library makes of an answer that is no JSON
        raise ClusterAway(f"what answers at {where} is no API server of Kubernetes: {answer[:100]!r}")
    return answer


def _why(error: BaseException) -> str:
    """What is at the bottom of it: `connection refused`, without what the libraries have put around."""
    while isinstance(inner := getattr(error, "reason", None) or error.__cause__, BaseException):
        error = inner
    told = error.strerror if isinstance(error, OSError) else None
    return told or str(error.args[-1] if error.args else type(error).__name__)


def _refusal(error: "ApiException", where: str) -> ClusterError:
    message = _message(error)
    match error.status:
        case 404:
            return Missing(message)
        case 409:
            return Changed(message)
        case 410:
            return Expired(message)
        case 401:
            return NotAllowed(f"the API server at {where} does not know who asks ({message}): sign in to the cluster")
        case 403:
            return NotAllowed(message)
        case int(status) if 400 <= status < 500 and status != 429:
            return Rejected(message)
    return ClusterAway(f"the API server at {where} does not do its work: {message}")


def _message(error: "ApiException") -> str:
    try:
        document = json.loads(error.body or "")
    except ValueError:
        document = None
    said = document.get("message") if isinstance(document, dict) else None
    return str(said or error.reason or f"status {error.status}")


def _words(namespace: str) -> dict[str, str]:
    return {"group": GROUP, "version": VERSION, "plural": PLURAL, "namespace": namespace}
