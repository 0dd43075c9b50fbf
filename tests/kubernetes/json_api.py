"""The API of a cluster in plain JSON, for the test node: the library's models cost more than the node's work."""

import datetime
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
_TIMEOUT_S = 10.0
_STREAM_S = 600.0
AWAY = (OSError, urllib3.exceptions.HTTPError, ValueError)
"""What a request raises that gets no answer, or half of one."""


def stamp() -> str:
    """Now, as objects tell the time."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Exception):
    """The server said no; ``code`` is that of the Status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class JsonApi:
    """Requests as whom a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        known = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=known)
        self.host = known.host
        self._headers = {"Accept": "application/json", "User-Agent": "test-node/1"}
        settings: Any = known.auth_settings()
        self._headers |= {setting["key"]: setting["value"] for setting in settings.values()}
        context = None
        if known.host.startswith("https"):
            context = ssl.create_default_context(cafile=known.ssl_ca_cert)
            context.check_hostname = bool(known.verify_ssl)
            if not known.verify_ssl:
                context.verify_mode = ssl.CERT_NONE
            if known.cert_file:
                context.load_cert_chain(known.cert_file, known.key_file)
        self._watched: urllib3.BaseHTTPResponse | None = None
        self._pool = urllib3.PoolManager(maxsize=16, ssl_context=context, retries=False)

    def request(self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: Any) -> Any:
        """The answer; raises Refused, or OSError and urllib3's errors when the server does not answer."""
        url = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({"Content-Type": kind} if data else {})
        answer = self._pool.request(method, url, body=data, headers=headers, timeout=_TIMEOUT_S)
        if answer.status < 400:
            return json.loads(answer.data)
        if "json" in answer.headers.get("Content-Type", ""):
            raise Refused(answer.status, json.loads(answer.data).get("message", ""))
        raise Refused(answer.status, answer.data.decode(errors="replace"))

    def open(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer as it comes, whatever it is; to be closed."""
        headers = self._headers | headers
        timeout = urllib3.Timeout(connect=_TIMEOUT_S, read=_STREAM_S)
        return self._pool.request(
            method, f"{self.host}{path}", body=body, headers=headers, preload_content=False, timeout=timeout
        )

    def watch(self, path: str, version: str, ended: threading.Event, **query: Any) -> Iterator[Object]:
        """Events after a version, until the server closes the watch or ``ended`` is set."""
        query |= {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        url = f"{self.host}{path}?{urlencode(query)}"
        timeout = urllib3.Timeout(connect=_TIMEOUT_S, read=_TIMEOUT_S * 3)
        answer = self._pool.request("GET", url, headers=self._headers, preload_content=False, timeout=timeout)
        self._watched = answer
        try:
            if ended.is_set():
                return
            if answer.status >= 400:
                raise Refused(answer.status, "the watch was refused")
            left = b""
            for chunk in answer.stream(None, decode_content=True):
                *lines, left = (left + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
                if ended.is_set():
                    return
        finally:
            self._watched = None
            answer.close()

    def hang_up(self) -> None:
        """Ends the watch that is on, from another thread."""
        watched = self._watched
        if watched is not None:
            with suppress(OSError, ValueError):  # it ends by itself just then
                watched.shutdown()
