"""The API of one cluster: objects as plain JSON, a deadline on every call.

The library knows how to find a cluster and how to sign in there; its typed models cost more than all the rest of labd's
work on a pod, and know no field that is newer than the library. So they are left out.
"""

import email.utils
import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from labd.executors.kubernetes.settings import Cluster

Json = dict[str, Any]
Kind = Literal["pods", "configmaps", "secrets"]

CALL_S = 10.0
"""Deadline of a call."""
LIST_S = 30.0
"""Deadline of one page of a list."""
CONNECT_S = 5.0
PAGE = 500
ANSWER_BYTES_MAX = 64 * 1024 * 1024
EVENT_BYTES_MAX = 2 * 1024 * 1024
"""More than an object of etcd's can have."""
CONNECTIONS = 8
_READ_BYTES = 64 * 1024
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class ClusterAway(Exception):
    """The API server gave no answer, or none that helps; trying again later may. The message says why."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Refused(Exception):
    """The API server's answer is no."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Expired(Exception):
    """The resource version is too old for a watch to go on from: list again (410 Gone)."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something has become of an object."""

    kind: str
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``."""
    found: Json

    @property
    def version(self) -> str:
        """Where a watch may go on."""
        return str(self.found["metadata"].get("resourceVersion", ""))


class ClusterApi:
    """Every method may be called from any thread, and raises ClusterAway; the first one loads the library (2 s)."""

    def __init__(self, settings: Cluster) -> None:
        self._settings = settings
        self._loading = threading.Lock()
        self._client: Any = None
        self._ahead_s = 0.0
        self._watching: Any = None

    def now(self) -> float:
        """The cluster's clock, as of its last answer (s since the Unix epoch)."""
        return time.time() + self._ahead_s

    def create(self, kind: Kind, body: Json) -> Json:
        """The object as it is now. Raises Refused: 409 when there is one of that name."""
        return self._call("POST", self._path(kind), body=body)

    def get(self, kind: Kind, name: str) -> Json | None:
        """The object, if there is one. Raises Refused."""
        try:
            return self._call("GET", self._path(kind, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: Kind, selector: str, *, metadata_only: bool = False) -> tuple[list[Json], str]:
        """All objects, and the resource version from which a watch goes on. Raises Refused."""
        found: list[Json] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        accept = _METADATA if metadata_only else "application/json"
        while True:
            page = self._call("GET", self._path(kind), query=query, accept=accept, within_s=LIST_S)
            found += page.get("items") or []
            more = page["metadata"].get("continue")
            if not more:
                return found, str(page["metadata"].get("resourceVersion", ""))
            query["continue"] = more

    def watch(self, kind: Kind, selector: str, version: str, within_s: float) -> Generator[Event, None, None]:
        """What becomes of them from then on, for so long at most. Raises Expired, and Refused.

        One at a time; `stop_watching` ends it.
        """
        query = {
            "watch": "true",
            "labelSelector": selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(within_s))),
        }
        response = self._open("GET", self._path(kind), query=query, timeout=(CONNECT_S, within_s + CALL_S))
        self._watching = response.response
        try:
            if response.status != 200:
                self._raise(response.status, response.getheaders(), self._content(response, CALL_S))
            for line in self._lines(response):
                yield _event(json.loads(line))
        except ValueError as error:
            raise ClusterAway(f"the watch of {kind} sent what is no JSON: {error}") from error
        finally:
            self._watching = None
            response.response.close()

    def stop_watching(self) -> None:
        """Ends the watch that another thread follows."""
        watching = self._watching
        if watching is not None:
            try:
                watching.shutdown()
            except (OSError, ValueError, RuntimeError):
                return  # it has just ended

    def delete(self, kind: Kind, name: str, *, grace_s: int | None = None, uid: str | None = None) -> bool:
        """Whether there was such an object; of a pod, its containers may take ``grace_s`` to end. Raises Refused.

        With ``uid``: that one, and none that has come in its place.
        """
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", self._path(kind, name), body=options)
        except Refused as error:
            if error.status == 404 or (error.status == 409 and uid is not None):
                return False
            raise
        return True

    def may(self, verb: str, resource: str, group: str = "") -> bool:
        """Whether labd may do it, in the namespace; of TokenReviews, in the cluster. Raises Refused."""
        attributes = {"verb": verb, "resource": resource, "group": group}
        if not group:
            attributes["namespace"] = self._settings.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        review = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return review.get("status", {}).get("allowed") is True

    def review_token(self, token: str, audience: str) -> Json:
        """What the cluster says of a token: the status of a TokenReview (authentication.k8s.io/v1). Raises Refused."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        status = self._call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body).get("status")
        return status if isinstance(status, dict) else {}

    def close(self) -> None:
        """Lets go of the connections."""
        with self._loading:
            if self._client is not None:
                self._client.rest_client.close()

    def _path(self, kind: Kind, name: str = "") -> str:
        path = f"/api/v1/namespaces/{self._settings.namespace}/{kind}"
        return f"{path}/{name}" if name else path

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        accept: str = "application/json",
        within_s: float = CALL_S,
    ) -> Json:
        response = self._open(method, path, query, body, accept, timeout=(CONNECT_S, within_s))
        content = self._content(response, within_s)
        self._set_clock(response.getheader("Date"))
        if not 200 <= response.status <= 299:
            self._raise(response.status, response.getheaders(), content)
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise ClusterAway(f"{method} {path}: the answer is no JSON") from error
        if not isinstance(answer, dict):
            raise ClusterAway(f"{method} {path}: the answer is no object")
        return answer

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        accept: str = "application/json",
        *,
        timeout: tuple[float, float],
    ) -> Any:
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": accept, "User-Agent": "labd"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        client = self._connect()
        try:
            client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            url = client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
            return client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=timeout)
        except (HTTPError, OSError, ApiException, ConfigException) as error:
            raise ClusterAway(_in_a_line(error)) from error

    def _connect(self) -> Any:
        with self._loading:
            if self._client is None:
                self._client = _load(self._settings)
            return self._client

    def _content(self, response: Any, within_s: float) -> bytes:
        from urllib3.exceptions import HTTPError

        until, parts, size = time.monotonic() + within_s, [], 0
        try:
            for part in response.response.stream(_READ_BYTES):
                parts.append(part)
                size += len(part)
                if size > ANSWER_BYTES_MAX or time.monotonic() > until:
                    response.response.close()
                    raise ClusterAway(f"the answer is larger than {ANSWER_BYTES_MAX} bytes, or later than {within_s} s")
        except (HTTPError, OSError) as error:
            raise ClusterAway(_in_a_line(error)) from error
        return b"".join(parts)

    def _lines(self, response: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for part in response.response.stream(_READ_BYTES):
                *lines, rest = (rest + part).split(b"\n")
                yield from filter(None, lines)
                if len(rest) > EVENT_BYTES_MAX:
                    raise ClusterAway(f"the watch sent an object of more than {EVENT_BYTES_MAX} bytes")
        except (HTTPError, OSError) as error:
            raise ClusterAway(_in_a_line(error)) from error

    def _set_clock(self, date: str | None) -> None:
        if date is not None:
            try:
                self._ahead_s = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
            except ValueError:
                return  # no clock to go by: labd's own

    def _raise(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        try:
            message = str(json.loads(content)["message"])
        except (ValueError, KeyError, TypeError):
            message = content[:200].decode("utf-8", "replace").strip()
        message = f"{message or 'no reason given'} (HTTP {status})"
        if status == 410:
            raise Expired(message)
        if status in (401, 408, 429) or status >= 500:
            after = str(headers.get("Retry-After", ""))
            raise ClusterAway(message, float(after) if after.isdecimal() else 0.0)
        raise Refused(status, message)


def _event(line: Any) -> Event:
    if line["type"] == "ERROR":
        status = line["object"]
        message = str(status.get("message", "the watch ended with an error"))
        if status.get("code") == 410:
            raise Expired(message)
        raise ClusterAway(message)
    return Event(line["type"], line["object"])


def _load(settings: Cluster) -> Any:
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

    configuration = Configuration()
    try:
        if settings.kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
        else:
            load_kube_config(
                str(settings.kubeconfig), settings.context, client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError, ValueError, TypeError, KeyError) as error:
        where = f"kubeconfig {settings.kubeconfig}" if settings.kubeconfig else "the pod's service account"
        raise ClusterAway(f"{where}: {_in_a_line(error)}") from error
    configuration.retries = False  # who calls decides
    configuration.connection_pool_maxsize = CONNECTIONS
    return ApiClient(configuration)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
