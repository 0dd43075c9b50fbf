"""What breaks after labd has done what it was asked: the clients send it again, and get the answer to what they did."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPResponse, HTTPSConnection, RemoteDisconnected
from pathlib import Path

import pytest

from bench_agent.server.enrol import enrol
from labd.api.https import OwnContext, server_context
from labd.client import AsyncLabClient, LabClient, ProblemError
from labd.model.identity import ANONYMOUS, ActorKind, Role
from labd.services.authority import Authority
from labd.services.lab import Lab
from labd.services.own_certificate import OwnCertificate
from labd.store.units.audit import AuditFilter
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report
from tests.unit.labd.serving import serving


class BreakingProxy:
    """Passes bytes on, and breaks the connection in place of the next answers: what was asked is done by then."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers_to_lose = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Once its clients have closed their connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as labd:
            answers = threading.Thread(target=self._pass_on, args=(labd, client, True), daemon=True)
            answers.start()
            self._pass_on(client, labd, False)
            answers.join(30)

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self.answers_to_lose:
                    self.answers_to_lose -= 1
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = open_lab(tmp_path, FakeClock())
    attach(lab, report("bench-1"))
    lab.identities.create_team(ANONYMOUS, "blue")
    lab.identities.create_user(ANONYMOUS, "ada", ActorKind.PERSON)
    lab.identities.save_member(ANONYMOUS, "blue", "ada", Role.ENGINEER)
    yield lab
    lab.core.store.close()


@pytest.fixture
def proxy(lab: Lab) -> Iterator[BreakingProxy]:
    with serving(lab) as address:
        proxy = BreakingProxy(address)
        yield proxy
        proxy.close()


def done(lab: Lab, action: str) -> int:
    """How often this was done."""
    return len(lab.auditing.page(AuditFilter(action=action), after=None, limit=10, newest_first=True))


def _policy(lab: LabClient) -> Callable[[], object]:
    seen = lab.policy()
    return lambda: lab.put_policy({**seen, "ageing_bound_s": 60.0}, if_match=seen)


def _release(lab: LabClient) -> Callable[[], object]:
    lease = lab.create_lease(holder="ada")
    return lambda: lab.release(lease["id"], if_match=lease)


def _environment(lab: LabClient) -> Callable[[], object]:
    made = lab.put_environment("staging", {"A": "1"})
    return lambda: lab.put_environment("staging", {"A": "2"}, if_match=made)


def _no_environment(lab: LabClient) -> Callable[[], object]:
    made = lab.put_environment("staging", {"A": "1"})
    return lambda: lab.remove_environment("staging", if_match=made)


def _drain(lab: LabClient) -> Callable[[], object]:
    seen = lab.bench("bench-1")
    return lambda: lab.drain_bench("bench-1", "a fuse", if_match=seen)


CHANGES: dict[str, tuple[Callable[[LabClient], Callable[[], object]], str]] = {
    "policy": (_policy, "policy.changed"),
    "release": (_release, "lease.ending"),
    "environment": (_environment, "environment.changed"),
    "no environment": (_no_environment, "environment.removed"),
    "drain": (_drain, "bench.drained"),
    "member": (lambda lab: lambda: lab.remove_member("blue", "ada"), "member.removed"),
    "user": (lambda lab: lambda: lab.remove_user("ada", "left"), "user.removed"),
    "team": (lambda lab: lambda: lab.remove_team("blue", "reorganised"), "team.removed"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_whose_answer_is_lost_is_answered_when_it_is_sent_again(
    name: str, lab: Lab, proxy: BreakingProxy
) -> None:
    prepare, action = CHANGES[name]
    with LabClient(proxy.url, timeout_s=60) as client:
        change = prepare(client)
        before = done(lab, action)
        proxy.answers_to_lose = 2
        change()
    assert proxy.answers_to_lose == 0
    assert done(lab, action) == before + 1


def test_so_it_is_with_the_asynchronous_client(lab: Lab, proxy: BreakingProxy) -> None:
    async def story() -> None:
        async with AsyncLabClient(proxy.url, timeout_s=60) as client:
            seen = await client.policy()
            proxy.answers_to_lose = 2
            mine = await client.put_policy({**seen, "ageing_bound_s": 60.0}, if_match=seen)
            assert mine["ageing_bound_s"] == 60.0
            with pytest.raises(ProblemError) as refused:
                await client.put_policy({**seen, "ageing_bound_s": 7.0}, if_match=seen)
            assert refused.value.status == 412, "another change is refused, as it was made to what was seen before"

    asyncio.run(story())
    assert (proxy.answers_to_lose, done(lab, "policy.changed")) == (0, 1)


def test_who_is_refused_for_anothers_change_stays_refused(lab: Lab, proxy: BreakingProxy) -> None:
    with LabClient(proxy.url, timeout_s=60) as client:
        seen = client.policy()
        client.put_policy({**seen, "ageing_bound_s": 7.0}, if_match=seen)
        proxy.answers_to_lose = 1
        with pytest.raises(ProblemError) as refused:
            client.put_policy({**seen, "ageing_bound_s": 60.0}, if_match=seen)
    assert (refused.value.status, done(lab, "policy.changed")) == (412, 1)


def test_an_agent_whose_enrolment_breaks_is_enrolled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    clock.time = time.time()
    authority = Authority(tmp_path / "ca", clock.now)
    lab = open_lab(tmp_path, clock, authority=authority)
    token = lab.enrolment.invite(ANONYMOUS, "host-1").token
    answered = HTTPSConnection.getresponse
    lost: list[str] = []

    def lose_the_first(connection: HTTPSConnection) -> HTTPResponse:
        answer = answered(connection)
        if answer.status == HTTPStatus.CREATED and not lost:
            lost.append(answer.read().decode())
            raise RemoteDisconnected("the connection broke")
        return answer

    monkeypatch.setattr(HTTPSConnection, "getresponse", lose_the_first)
    with serving(lab, tls=server_context(OwnContext(OwnCertificate(authority)), None)) as (host, port):
        mine = enrol(f"https://{host}:{port}", token, "host-1", tmp_path / "agent")
    assert json.loads(lost[0])["certificate"] == mine.current().chain.decode(), "the answer to what it had asked before"
    assert done(lab, "agent.enrolled") == 1
    lab.core.store.close()
