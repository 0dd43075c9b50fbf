from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from labd.api.paging import Paging
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, application, attach, report


@pytest.fixture
def web(lab: Lab) -> Iterator[TestClient]:
    attach(lab, *(report(f"bench-{n}", {"rack": "a" if n < 4 else "b"}) for n in range(6)))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as client:
        yield client


def _ids(web: TestClient, path: str, between: object = None, **params: str | int | list[str]) -> list[str]:
    """Every item of a list, two at a time; ``between`` is called after each page."""
    found: list[str] = []
    while True:
        page = web.get(path, params={"limit": 2, **params}).json()
        assert len(page["items"]) <= 2
        found += [item.get("id") or item["name"] for item in page["items"]]
        if callable(between):
            between()
        if page["next"] is None:
            return found
        params["cursor"] = page["next"]


def test_benches_come_in_pages_by_name(web: TestClient) -> None:
    assert _ids(web, "benches") == [f"bench-{n}" for n in range(6)]
    assert _ids(web, "benches", selector="rack=b") == ["bench-4", "bench-5"]


def test_what_arrives_between_two_pages_moves_nothing(web: TestClient) -> None:
    made = [web.post("leases", json={"holder": "ada"}).json()["id"] for _ in range(7)]
    more = lambda: web.post("leases", json={"holder": "eve"})  # noqa: E731
    assert _ids(web, "leases", more) == made[::-1]
    runs = [web.post("runs", json={"holder": "ci", "script": "return"}).json()["id"] for _ in range(3)]
    assert _ids(web, "runs", lambda: web.post("runs", json={"holder": "ci", "script": "return"})) == runs[::-1]


def test_lists_are_filtered_by_state_holder_bench_and_time(web: TestClient, clock: FakeClock) -> None:
    a = web.post("leases", json={"holder": "ada", "selector": "rack=a"}).json()["id"]
    b = web.post("leases", json={"holder": "bob", "selector": "rack=b"}).json()["id"]
    clock.advance(3600)
    c = web.post("leases", json={"holder": "ada", "selector": "rack=b", "ttl_s": 60}).json()["id"]
    web.delete(f"leases/{a}")
    assert _ids(web, "leases", state=["GRANTED"]) == [c]
    assert _ids(web, "leases", state=["GRANTED", "ENDING", "ENDED"]) == [c, b, a]
    assert _ids(web, "leases", holder="ada") == [c, a]
    assert _ids(web, "leases", selector="rack=b") == [c, b]
    assert _ids(web, "leases", since="2027-01-15T08:30:00Z") == [c]
    run = web.post("runs", json={"holder": "ci", "script": "return", "selector": "rack=a"}).json()["id"]
    assert _ids(web, "runs", selector="rack=a", state=["RUNNING", "PENDING"]) == [run]
    assert _ids(web, "runs", selector="rack=b") == []


def test_lists_are_filtered_by_team_and_until_when(web: TestClient, clock: FakeClock) -> None:
    a = web.post("leases", json={"holder": "ada", "team": "chassis"}).json()["id"]
    run = web.post("runs", json={"holder": "ci", "script": "return", "team": "chassis"}).json()
    clock.advance(3600)
    b = web.post("leases", json={"holder": "ada"}).json()["id"]
    assert _ids(web, "leases", team="chassis") == [run["lease_id"], a]
    assert _ids(web, "runs", team="chassis") == [run["id"]]
    assert _ids(web, "runs", team="default") == []
    assert _ids(web, "leases", until="2027-01-15T08:30:00Z") == [run["lease_id"], a]
    assert _ids(web, "leases", since="2027-01-15T08:00:00Z", until="2027-01-15T09:00:00Z") == [run["lease_id"], a]
    assert _ids(web, "leases", since="2027-01-15T09:00:00Z") == [b]
    assert {one["team"] for one in web.get("audit", params={"team": "chassis"}).json()["items"]} == {"chassis"}


def test_benches_and_agents_are_filtered(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    lease = web.post("leases", json={"holder": "ada", "selector": "name=bench-2"}).json()
    assert _ids(web, "benches", holder="ada") == _ids(web, "benches", state="leased") == lease["bench"].split()
    assert _ids(web, "benches", holder="bob") == []
    clock.advance(3600)
    attach(lab, report("late", {"team": "chassis"}, healthy=False, reason="no power"), agent="agent-2")
    assert _ids(web, "benches", team="chassis") == _ids(web, "benches", agent="agent-2") == ["late"]
    assert _ids(web, "benches", health=["unhealthy", "offline"]) == ["late"]
    noon = "2027-01-15T08:30:00Z"
    assert _ids(web, "benches", since=noon) == ["late"]
    assert _ids(web, "agents", since=noon, attached="true") == ["agent-2"]
    assert _ids(web, "agents", until=noon, state="unproved") == ["agent-1"]
    assert _ids(web, "agents", state="revoked") == []


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("leases?stat=QUEUED", "stat", "did you mean 'state'"),
        ("benches?selecter=a", "selecter", "did you mean 'selector'"),
        ("audit?holder=ada", "holder", "no such filter"),
        ("runs?since=2026-11-21T09:30:00+01:00", "since", "write + as %2B"),
        ("runs?since=2026-11-22T00:00:00Z&until=2026-11-21T00:00:00Z", "until", "after `since`"),
        ("leases?state=HELD", "state.0", "QUEUED"),
        ("leases?cursor=nonsense", "cursor", "`next` of an answer"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(web: TestClient, query: str, field: str, message: str) -> None:
    (error,) = web.get(query).json()["errors"]
    assert error["field"] == field
    assert message in error["message"]


def test_a_cursor_is_of_one_list_with_its_filters(web: TestClient) -> None:
    for _ in range(3):
        web.post("leases", json={"holder": "ada"})
    cursor = web.get("leases", params={"limit": 1}).json()["next"]
    assert web.get("leases", params={"limit": 2, "cursor": cursor}).status_code == 200
    for path, params in (("runs", {}), ("benches", {}), ("leases", {"holder": "ada"})):
        refused = web.get(path, params={"cursor": cursor, **params})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "cursor")


@given(st.sets(st.text(min_size=1, max_size=4)), st.integers(1, 5))
def test_pages_are_the_whole_list_cut(names: set[str], limit: int) -> None:
    everything, seen, after = sorted(names), list[str](), None
    while True:
        page = Paging(limit, after, "x").cut(everything, str, str)
        seen += page.items
        if page.next is None:
            break
        after = page.items[-1]
    assert seen == everything
