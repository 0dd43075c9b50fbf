import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from labd.client import LabClient, LabError, LabUnreachable, ProblemError, UnexpectedAnswer, log_stream, transport
from tests.unit.client.fake_labd import FakeLabd, make_result


def unused_url() -> str:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_benches_are_listed_and_shown(labd: FakeLabd, client: LabClient) -> None:
    assert [bench["name"] for bench in client.benches("platform=meb")] == ["bench-1"]
    assert labd.asked("GET", "/benches") == [{"selector": "platform=meb", "limit": "1000"}]
    assert client.bench("bench-1")["ecus"][0]["dids"][0]["name"] == "VIN"


def test_a_name_with_a_slash_stays_one_segment(labd: FakeLabd, client: LabClient) -> None:
    with pytest.raises(ProblemError):
        client.bench("../leases?x=1")
    assert labd.requests[-1][:2] == ("GET", "/benches/..%2Fleases%3Fx%3D1")


def test_a_lease_from_asking_to_release(labd: FakeLabd, client: LabClient) -> None:
    lease = client.create_lease(selector="platform=meb", holder="ada", duration_s=60, ttl_s=5, priority="high")
    assert (lease["state"], lease["bench"], lease["token"]) == ("GRANTED", "bench-1", "lease-token")
    assert labd.asked("POST", "/leases") == [
        {"selector": "platform=meb", "holder": "ada", "duration_s": 60, "ttl_s": 5, "priority": "high"}
    ]
    assert client.heartbeat(lease["id"])["token"] == "lease-token"
    assert client.release(lease["id"])["end_reason"] == "released"
    assert [one["id"] for one in client.leases("ENDED")] == [lease["id"]]
    assert client.leases("QUEUED") == []


def test_a_run_from_submission_to_result(labd: FakeLabd, client: LabClient) -> None:
    run = client.create_run(script="-- Lua", files={"lib/a.lua": "return 1"}, holder="ada")
    assert labd.asked("POST", "/runs")[0]["files"] == {"lib/a.lua": "return 1"}
    assert "data_files" not in labd.asked("POST", "/runs")[0]
    assert [line["text"] for line in client.follow_log(run["id"])] == ["one", "two"]
    assert client.run(run["id"])["state"] == "PASSED"
    assert client.result(run["id"])["cases"][1]["verdict"] == "failed"
    assert client.junit(run["id"]) == "<testsuites/>"
    assert [one["id"] for one in client.runs("PASSED", limit=5)] == [run["id"]]


def test_the_runners_calls_carry_the_token(labd: FakeLabd) -> None:
    labd.add_run()
    with LabClient(labd.url, token="run-token") as runner:
        assert runner.assignment("run-1")["script"] == "-- Lua"
        lines = [{"time": "2026-11-21T09:30:00Z", "level": "info", "text": text} for text in ("a", "b")]
        assert runner.append_log("run-1", 5, lines) == 6
        assert runner.data_file("run-1", "logs/trip 1.blf") == b"logs/trip 1.blf"
        runner.put_result("run-1", make_result(), "<testsuites/>")
    assert labd.results["run-1"]["version"] == 1
    assert {headers["authorization"] for headers in labd.headers} == {"Bearer run-token"}


def test_a_problem_document_becomes_an_error_that_says_everything_once(labd: FakeLabd, client: LabClient) -> None:
    detail = "selector 'a==', column 4: expected a value"
    labd.refuse(
        "POST", "/leases", 422, detail, errors=[{"field": "selector", "value": "a==", "message": "expected a value"}]
    )
    with pytest.raises(ProblemError) as caught:
        client.create_lease(selector="a==", holder="ada")
    assert str(caught.value) == detail
    assert (caught.value.status, caught.value.errors[0]["field"]) == (422, "selector")
    labd.refuse(
        "POST",
        "/leases",
        422,
        "the request is not valid",
        errors=[{"field": "ttl_s", "value": 0, "message": "at least 1"}],
    )
    with pytest.raises(ProblemError, match=r"the request is not valid \(ttl_s = 0: at least 1\)"):
        client.create_lease(ttl_s=0, holder="ada")


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>a router</html>"),
        (404, "text/html", b"<h1>nothing</h1>"),
        (500, "application/json", b"[]"),
    ],
)
def test_another_server_is_told_from_labd(
    labd: FakeLabd, client: LabClient, status: int, kind: str, body: bytes
) -> None:
    labd.canned["GET", "/benches"] = (status, kind, body)
    with pytest.raises(UnexpectedAnswer, match="does not answer as labd does"):
        client.benches()


def test_nobody_there_names_the_url() -> None:
    url = unused_url()
    with LabClient(url) as lab, pytest.raises(LabUnreachable, match=f"labd at {url} cannot be reached") as caught:
        lab.benches()
    assert caught.value.url == url


def test_no_answer_in_time_is_unreachable() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with LabClient(url, timeout_s=0.1) as lab, pytest.raises(LabUnreachable, match=r"no answer within 0\.1 s"):
            lab.benches()
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # it asked once: twice would be twice the time
            silent.accept()


@contextlib.contextmanager
def server_that_says(answer: bytes) -> Iterator[str]:
    """A server for one connection, which is closed after the answer."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def test_an_answer_that_is_cut_off_is_no_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 100\r\n\r\n"
    with server_that_says(head + b"<testsuites>") as url, LabClient(url) as lab, pytest.raises(LabUnreachable):
        lab.junit("run-1")


def test_a_port_that_speaks_something_else_is_told() -> None:
    refused = pytest.raises(UnexpectedAnswer, match="does not speak HTTP")
    with server_that_says(b"\0\0\x18\4\r\n") as url, LabClient(url) as lab, refused:
        lab.benches()


def test_an_answer_without_end_is_bounded(labd: FakeLabd, client: LabClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(UnexpectedAnswer, match="longer than 100 bytes"):
        client.benches()


def test_tls_is_tried_for_https(labd: FakeLabd) -> None:
    with LabClient(labd.url.replace("http:", "https:")) as lab, pytest.raises(LabUnreachable):
        lab.benches()


def test_connections_are_reused_until_labd_closes_them(labd: FakeLabd, client: LabClient) -> None:
    for _ in range(3):
        client.benches()
    assert labd.connections == 1
    labd.close_idle()
    client.benches()
    assert labd.connections == 2


def test_a_url_may_have_a_path(labd: FakeLabd) -> None:
    with LabClient(f"{labd.url}/lab/") as lab, pytest.raises(ProblemError):
        lab.benches()
    assert labd.requests[-1][1] == "/lab/api/v1/benches"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8470", "ftp://host", "http://", "http://host:port", "http://a b", "http://[::1", "labd"]
)
def test_a_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(LabError, match="http://127"):
        LabClient(url)


def test_a_call_survives_lost_connections(labd: FakeLabd, client: LabClient) -> None:
    for call in (
        client.benches,
        lambda: client.create_run(script="-- Lua", holder="ada"),
        lambda: client.create_lease(holder="ada"),
        lambda: client.heartbeat("lease-1"),
    ):
        labd.cut_next = 3
        assert call()


def test_a_post_is_repeated_with_its_key_and_the_next_has_another(labd: FakeLabd, client: LabClient) -> None:
    labd.cut_next = 2
    client.create_lease(holder="ada")
    client.create_lease(holder="ada")
    keys = [headers["idempotency-key"] for headers in labd.headers]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_repeated_post_waits_for_its_former_self(labd: FakeLabd, client: LabClient) -> None:
    busy = {"title": "Conflict", "status": 409, "detail": "being worked on"}
    labd.cut_next = 1
    labd.once["POST", "/leases"] = (409, {"Retry-After": "1"}, json.dumps(busy).encode())
    assert client.create_lease(holder="ada")["state"] == "GRANTED"
    assert len(labd.asked("POST", "/leases")) == 3


def test_a_connection_that_breaks_again_and_again_is_given_up_in_time(labd: FakeLabd) -> None:
    labd.cut_next = 1000
    with LabClient(labd.url, timeout_s=0.5) as lab, pytest.raises(LabUnreachable):
        lab.create_lease(holder="ada")
    assert 2 <= len(labd.requests) <= 10


def test_an_answer_is_final_whatever_it_says_about_later() -> None:
    problem = b'{"title": "busy"}'
    head = (
        b"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
    )
    refused = pytest.raises(ProblemError, match="busy")
    with server_that_says(head % len(problem) + problem) as url, LabClient(url) as lab, refused:
        lab.benches()


def test_a_redirect_is_not_followed(labd: FakeLabd) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: %s/api/v1/benches\r\nContent-Length: 0\r\n\r\n"
    refused = pytest.raises(UnexpectedAnswer, match="status 302")
    with server_that_says(head % labd.url.encode()) as url, LabClient(url) as lab, refused:
        lab.benches()
    assert labd.requests == []


def test_a_repeated_request_says_nothing_on_stderr(labd: FakeLabd) -> None:
    labd.cut_next = 1
    code = f"from labd.client import LabClient; print(len(LabClient({labd.url!r}).benches()))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert (asked.stdout, asked.stderr, len(labd.requests)) == ("1\n", "", 2)


def test_requests_share_a_connection(labd: FakeLabd, client: LabClient) -> None:
    client.benches()
    client.create_lease(holder="ada")
    assert labd.connections == 1


def test_the_log_is_followed_while_it_grows(labd: FakeLabd, client: LabClient) -> None:
    run = labd.add_run()
    labd.start_run(run)
    log = client.follow_log(run["id"])
    texts = []
    for text in ("first", "second"):
        with labd.changed:
            labd.say(run, text)
            labd.changed.notify_all()
        texts.append(next(log)["text"])
    with labd.changed:
        labd.end_run(run, "FAILED")
        labd.changed.notify_all()
    with pytest.raises(StopIteration) as end:
        next(log)
    assert texts == ["first", "second"]
    assert end.value.value["state"] == "FAILED"


def test_a_broken_log_stream_is_resumed_where_it_broke(
    labd: FakeLabd, client: LabClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "_FIRST_PAUSE_S", 0.001)
    run = labd.add_run()
    labd.say(run, *"abcdef")
    labd.end_run(run)
    labd.cut_log_after = [2, 0, 3]
    assert "".join(line["text"] for line in client.follow_log(run["id"])) == "abcdef"
    assert [query["after"] for query in labd.asked("GET", "/runs/run-1/log")] == ["0", "2", "2", "5"]
    assert labd.headers[-1]["last-event-id"] == "5"


def test_following_gives_up_after_a_bound(labd: FakeLabd, client: LabClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(log_stream, "_LONGEST_PAUSE_S", 0.001)
    run = labd.add_run()
    labd.say(run, "a")
    labd.cut_log_after = [0] * (log_stream.ATTEMPTS + 5)
    with pytest.raises(LabUnreachable, match=f"{log_stream.ATTEMPTS} attempts"):
        list(client.follow_log(run["id"]))
    assert len(labd.cut_log_after) == 5


def test_a_missing_line_is_no_silent_loss(labd: FakeLabd, client: LabClient) -> None:
    run = labd.add_run()
    labd.say(run, "a", "b", "c")
    del labd.logs[run["id"]][1]
    with pytest.raises(UnexpectedAnswer, match="jumps from line 1 to 3"):
        list(client.follow_log(run["id"]))


def test_the_log_so_far_ends_at_its_present_end(labd: FakeLabd, client: LabClient) -> None:
    run = labd.add_run()
    labd.say(run, "a", "b")
    assert [line["text"] for line in client.log(run["id"], after=1)] == ["b"]


def test_the_log_of_an_unknown_run_is_a_problem(client: LabClient) -> None:
    with pytest.raises(ProblemError, match="there is no run 'nix'"):
        list(client.follow_log("nix"))


def test_threads_may_share_a_client(labd: FakeLabd, client: LabClient) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(len(client.benches()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [1] * 8


def test_a_closed_client_says_so(labd: FakeLabd) -> None:
    client = LabClient(labd.url)
    client.close()
    with pytest.raises(LabError, match="closed"):
        client.benches()


def test_importing_the_client_loads_no_http_library() -> None:
    heavy = ("urllib3", "http.client", "ssl", "rich", "grpc")
    code = f"import sys, labd.client; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert loaded.stdout == "[]\n"
