"""A fake labd: a real HTTP server in a thread that speaks the REST contract from memory, and misbehaves on request.

It schedules nothing: a test says what is free, which lines a log has, and how a run ends.
"""

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DEADLINE_S = 30.0
PAGE = 3
"""Most items in a page."""


def now(ahead_s: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()


def make_bench(name: str = "bench-1", address: str = "127.0.0.1:1", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "agent": "agent-1",
        "address": address,
        "labels": {"platform": "meb", "name": name},
        "health": "healthy",
        "health_reason": "",
        "state": "available",
        "lease_id": None,
        "holder": None,
        "epoch": 3,
        "last_seen": now(),
        "draining": False,
        "drain_reason": "",
        "buses": [
            {
                "name": "powertrain",
                "interface": "virtual",
                "channel": "pt",
                "fd": False,
                "messages": ["EngineStatus"],
                "state": "error-active",
                "lost": 0,
                "error_frames": 0,
            }
        ],
        "ecus": [
            {
                "name": "ECM",
                "bus": "powertrain",
                "request_id": 0x7E0,
                "response_id": 0x7E8,
                "simulated": True,
                "dids": [{"name": "VIN", "did": 0xF190, "type": "ascii", "unit": ""}],
            }
        ],
        "equipment": {
            "consoles": [{"name": "linux", "port": "/dev/ttyUSB0", "baudrate": 115200}],
            "power": [
                {
                    "name": "battery",
                    "supply": "main",
                    "driver": "scpi",
                    "terminal": "kl30",
                    "state": "on",
                    "measured_voltage": 13.5,
                    "measured_current": 0.25,
                    "measured_at": now(-5),
                },
                {
                    "name": "camera",
                    "supply": "pdu",
                    "driver": "command",
                    "terminal": "",
                    "state": "unknown",
                    "measured_voltage": None,
                    "measured_current": None,
                    "measured_at": None,
                },
            ],
            "adapters": [{"name": "door", "driver": "servo", "methods": ["close", "open"]}],
        },
        "last_clean_up": [],
        **changes,
    }


def make_result(**changes: Any) -> dict[str, Any]:
    failure = {"message": "expected 1500, got 812", "file": "speed.lua", "line": 7, "traceback": "stack"}
    case = {
        "name": "names itself",
        "verdict": "passed",
        "duration_s": 0.012,
        "steps": [],
        "failure": None,
        "frames": [],
    }
    return {
        "version": 1,
        "name": "speed.lua",
        "verdict": "failed",
        "reason": "1 of 2 cases failed",
        "failure": None,
        "benches": ["bench-1"],
        "started_at": now(),
        "duration_s": 0.5,
        "cases": [case, {**case, "name": "follows", "verdict": "failed", "failure": failure}],
        "log_lines": 3,
        "log_lines_dropped": 0,
        **changes,
    }


def page(found: Iterable[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    items, start = list(found), int(query.get("cursor", 0))
    end = start + min(int(query["limit"]), PAGE)
    return {"items": items[start:end], "next": str(end) if end < len(items) else None}


def etag(answer: Any) -> str:
    """Which version of a thing an answer shows; heartbeats make none."""
    steady = {name: value for name, value in answer.items() if name != "heartbeat_by"}
    return f'"{hashlib.sha256(json.dumps(steady).encode()).hexdigest()[:24]}"'


class FakeLabd:
    """State and switches; all access through the lock of `changed`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.benches: dict[str, dict[str, Any]] = {"bench-1": make_bench()}
        self.why: dict[str, Any] = {}
        """What the answer why a lease waits has in the place of the usual."""
        self.leases: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.free = True
        """Whether leases and runs are granted when they are asked for."""
        self.token = "lease-token"
        self.canned: dict[tuple[str, str], tuple[int, str, bytes]] = {}
        """(method, path) to a status, content type and body that are answered instead."""
        self.once: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = {}
        """The same with headers, of a problem document, for one request."""
        self.cut_log_after: list[int] = []
        """One entry a connection: the log stream breaks after so many lines."""
        self.cut_next = 0
        """So many requests lose their connection without an answer."""
        self.connections = 0
        """Accepted so far."""
        self.instant_end = "PASSED"
        """How runs end; empty: they go on until cancelled or ended by the test."""
        self.lets_wait = True
        """Whether a GET with ``wait`` is answered only once there is news, or its time is over."""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeLabd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        with self.changed:
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE_S)

    closing = False

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE_S), f"still not so after {DEADLINE_S} s"

    def asked(self, method: str, path: str) -> list[Any]:
        """The bodies of all requests to a route."""
        return [body for verb, route, body in self.requests if (verb, route) == (method, path)]

    def close_idle(self) -> None:
        """Closes every connection, and returns when the clients can see it."""
        self._server.close_connections()

    def refuse(self, method: str, path: str, status: int, detail: str, **extra: Any) -> None:
        document = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, **extra}
        self.canned[method, path] = (status, "application/problem+json", json.dumps(document).encode())

    def add_lease(self, **changes: Any) -> dict[str, Any]:
        lease = {
            "id": f"lease-{len(self.leases) + 1}",
            "state": "QUEUED",
            "selector": "",
            "wanted": [{"selector": "", "count": 1}],
            "same_site": False,
            "affinity": "",
            "holder": "ada",
            "team": "default",
            "priority": "normal",
            "held": False,
            "run_id": None,
            "duration_s": 1800.0,
            "ttl_s": 30.0,
            "position": 2,
            "obstacle": None,
            "bench": None,
            "address": None,
            "epoch": None,
            "benches": [],
            "created_at": now(),
            "granted_at": None,
            "expires_at": None,
            "heartbeat_by": now(30),
            "active_at": None,
            "starts_at": None,
            "reserved": [],
            "avoid": [],
            "idle_release_at": None,
            "revoke_at": None,
            "revoke_reason": "",
            "ending_at": None,
            "ended_at": None,
            "end_reason": None,
            "end_note": "",
            **{key: value for key, value in changes.items() if key != "benches"},
        }
        self.leases[lease["id"]] = lease
        return lease

    def grant(self, lease: dict[str, Any], *benches: str) -> None:
        granted = [
            {"name": name, "address": self.benches[name]["address"], "epoch": 4, "selector": ""}
            for name in benches or ("bench-1",)
        ]
        alone = granted[0] if len(granted) == 1 else dict.fromkeys(("name", "address", "epoch"))
        lease.update(
            state="GRANTED",
            position=None,
            bench=alone["name"],
            address=alone["address"],
            epoch=alone["epoch"],
            benches=granted,
            granted_at=now(),
            expires_at=now(lease["duration_s"]),
        )
        self._tell()

    def end_lease(self, lease: dict[str, Any], reason: str = "released") -> None:
        if lease["state"] != "ENDED":
            lease.update(state="ENDED", position=None, ending_at=now(), ended_at=now(), end_reason=reason)
            self._tell()

    def add_run(self, **changes: Any) -> dict[str, Any]:
        run = {
            "id": f"run-{len(self.runs) + 1}",
            "name": "speed.lua",
            "state": "PENDING",
            "reason": "",
            "selector": "",
            "holder": "ada",
            "team": "default",
            "priority": "normal",
            "timeout_s": 300.0,
            "executor": "process",
            "cluster": None,
            "git": None,
            "commit": None,
            "lease_id": None,
            "bench": None,
            "benches": [],
            "position": 2,
            "obstacle": None,
            "created_at": now(),
            "started_at": None,
            "ended_at": None,
            "cases": None,
            "cause": None,
            "attempts": [],
            **changes,
        }
        self.runs[run["id"]] = run
        self.logs.setdefault(run["id"], [])
        return run

    def start_run(self, run: dict[str, Any]) -> None:
        run.update(state="RUNNING", bench="bench-1", benches=["bench-1"], position=None, started_at=now())
        self._tell()

    def say(self, run: dict[str, Any], *texts: str, level: str = "info") -> None:
        log = self.logs[run["id"]]
        for text in texts:
            log.append({"seq": len(log) + 1, "time": "2026-11-21T09:30:00.125000Z", "level": level, "text": text})

    def end_run(self, run: dict[str, Any], state: str = "PASSED", reason: str = "") -> None:
        cases = {"passed": 2 if state == "PASSED" else 1, "failed": int(state == "FAILED"), "error": 0}
        run.update(state=state, position=None, ended_at=now(), reason=reason, cases=cases)
        self._tell()

    def _tell(self) -> None:
        with self.changed:
            self.changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, lab: FakeLabd) -> None:
        self.lab = lab
        self._open: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.lab.connections += 1
        self._open.append(request)
        super().process_request(request, client_address)

    def close_connections(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):  # the client closed it before
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = DEADLINE_S
    disable_nagle_algorithm = True

    @property
    def lab(self) -> FakeLabd:
        assert isinstance(self.server, _Server)
        return self.server.lab

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/api/v1")
        query = {key: " ".join(values) for key, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with self.lab.changed:
            self.lab.requests.append((method, path, body if body is not None else query))
            self.lab.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.lab.changed.notify_all()
            if self.lab.cut_next:
                self.lab.cut_next -= 1
                self.close_connection = True
                return
            canned = self.lab.canned.get((method, path))
            once = self.lab.once.pop((method, path), None)
        if once:
            self._send(once[0], once[2], "application/problem+json", once[1])
        elif canned:
            self._send(canned[0], canned[2], canned[1])
        elif method == "GET" and path.endswith("/log"):
            self._log(path.split("/")[2], query)
        else:
            with self.lab.changed:
                parts = [unquote(part) for part in path.strip("/").split("/")]
                answer = self._answer(method, parts, query, body)
                seen = self.headers.get("If-None-Match")
                if seen and self.lab.lets_wait and "wait" in query:
                    news = lambda: etag(self._answer(method, parts, query, body)) != seen or self.lab.closing  # noqa: E731
                    self.lab.changed.wait_for(news, float(query["wait"]))
                    answer = self._answer(method, parts, query, body)
                self.lab.changed.notify_all()
            if isinstance(answer, str):
                self._send(200, answer.encode(), "application/xml")
            elif answer is None:
                self._problem(404, f"there is no {path}")
            elif etag(answer) == seen:
                self._send(304, b"")
            else:
                self._send(200, json.dumps(answer).encode(), headers={"ETag": etag(answer)})

    def _answer(self, method: str, parts: list[str], query: dict[str, str], body: Any) -> Any:
        lab = self.lab
        match method, parts:
            case "GET", ["benches"]:
                return page(lab.benches.values(), query)
            case "GET", ["benches", name]:
                return lab.benches.get(name)
            case "POST", ["benches", name, "clear-quarantine"]:
                before = dict(lab.benches[name])
                lab.benches[name] |= {"health": "healthy", "health_reason": ""}
                return before
            case "POST", ["leases"]:
                lease = lab.add_lease(**body)
                if lab.free:
                    lab.grant(lease)
                return self._with_token(lease)
            case "GET", ["leases"]:
                return page(
                    (one for one in lab.leases.values() if one["state"] in query.get("state", one["state"])), query
                )
            case ("GET", ["leases", name]) | ("POST", ["leases", name, "heartbeat"]):
                return self._with_token(lab.leases[name]) if name in lab.leases else None
            case "POST", ["leases", name, "extend"]:
                return self._with_token(lab.leases[name])
            case "POST", ["leases", name, "transfer"]:
                return self._with_token({**lab.leases[name], "holder": body["holder"]})
            case "POST", ["leases", name, "shares"]:
                lease = self._with_token(lab.leases[name])
                return {"id": name, **body, "expires_at": lease["expires_at"], "benches": lease["benches"]}
            case "DELETE", ["leases", name, "shares", _]:
                return {**lab.leases[name], "shares": [{"holder": "carol", "mode": "observer"}]}
            case "GET", ["leases", name, "why"]:
                held = {"bench": "bench-1", "why": "held", "detail": None, "by": "lease-0", "until": now(3599)}
                drained = {"bench": "bench-2", "why": "draining", "detail": "new cables", "by": None, "until": None}
                excluded = {"platform=meb": ["bench-3"]}
                part = {"selector": "platform=meb", "count": 1, "excluded": excluded, "matching": [held, drained]}
                return {
                    **{"id": name, "position": 2, "ahead": ["lease-0"], "parts": [part], "quota": None, "limit": None},
                    **{"held_for_it_from": None, "short_of": {"graz": ["platform=meb"]}, "expected_start": now(60)},
                    **lab.why,
                }
            case "DELETE", ["leases", name]:
                if name not in lab.leases:
                    return None
                lab.end_lease(lab.leases[name])
                return lab.leases[name]
            case "POST", ["runs"]:
                run = lab.add_run(
                    selector=body.get("selector", ", ".join(one["selector"] for one in body.get("benches", []))),
                    **{
                        key: body[key] for key in ("name", "holder", "priority", "timeout_s", "executor") if key in body
                    },
                )
                if lab.free:
                    lab.start_run(run)
                    lab.say(run, "one", "two")
                    if lab.instant_end:
                        lab.end_run(run, lab.instant_end)
                        lab.results[run["id"]] = make_result()
                return run
            case "GET", ["runs"]:
                return page(
                    (one for one in lab.runs.values() if one["state"] in query.get("state", one["state"])), query
                )
            case "GET", ["runs", name]:
                return lab.runs.get(name)
            case "POST", ["runs", name, "cancel"]:
                if name in lab.runs and lab.runs[name]["state"] in ("PENDING", "RUNNING"):
                    lab.end_run(lab.runs[name], "CANCELLED")
                return lab.runs.get(name)
            case "GET", ["runs", name, "result"]:
                return lab.results.get(name)
            case "PUT", ["runs", name, "result"]:
                lab.results[name] = body["document"]
                return lab.runs[name]
            case "GET", ["runs", name, "junit"]:
                return "<testsuites/>" if name in lab.results else None
            case "POST", ["runs", _, "log"]:
                return {"acknowledged": body["first_seq"] + len(body["lines"]) - 1}
            case "GET", ["runs", name, "assignment"]:
                return {"run_id": name, "name": "speed.lua", "script": "-- Lua", "files": {}}
            case "GET", ["runs", _, "data-files", *path]:
                return "/".join(path)
        return None

    def _with_token(self, lease: dict[str, Any]) -> dict[str, Any]:
        token = self.lab.token if lease["state"] in ("GRANTED", "ACTIVE") else None
        return {**lease, "token": token, "benches": [{**one, "token": token} for one in lease["benches"]]}

    def _log(self, run_id: str, query: dict[str, str]) -> None:
        lab = self.lab
        if run_id not in lab.runs:
            self._problem(404, f"there is no run {run_id!r}")
            return
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        run, sent = lab.runs[run_id], int(query.get("after", 0))
        with lab.changed:
            left = lab.cut_log_after.pop(0) if lab.cut_log_after else None
        self.wfile.write(b": a comment, as labd sends them to keep the connection alive\n\n")
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and not lab.closing:
            with lab.changed:
                lines, ended = lab.logs[run_id][sent:], run["state"] not in ("PENDING", "RUNNING")
                if not lines and not ended and query.get("follow") != "false":
                    lab.changed.wait(1)
                    continue
            for line in lines:
                if left is not None and left == 0:
                    return
                left = left - 1 if left is not None else None
                self.wfile.write(f"id: {line['seq']}\nevent: line\ndata: {json.dumps(line)}\n\n".encode())
                sent += 1
            if left == 0:
                return
            if query.get("follow") == "false" or ended:
                self.wfile.write(f"event: end\ndata: {json.dumps(run)}\n\n".encode())
                return

    def _problem(self, status: int, detail: str) -> None:
        document = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail}
        self._send(status, json.dumps(document).encode(), "application/problem+json")

    def _send(
        self, status: int, content: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
