"""Nobody's change is lost: the API, both clients and labctl against a labd on a real socket."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fastapi.testclient import TestClient

from labd.api.app import create_app
from labd.cli.main import main
from labd.client import AsyncLabClient, LabClient, LabError, ProblemError, etag_of
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report
from tests.unit.labd.serving import serving

Labctl = Callable[..., Result]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    lab = open_lab(tmp_path_factory.mktemp("lab"), FakeClock())
    attach(lab, report("bench-1"), report("bench-2"))
    with serving(lab) as (host, port):
        yield lab, f"http://{host}:{port}"
    lab.core.store.close()


@pytest.fixture
def client(served: tuple[Lab, str]) -> Iterator[LabClient]:
    with LabClient(served[1], timeout_s=60) as client:
        yield client


@pytest.fixture
def labctl(served: tuple[Lab, str]) -> Labctl:
    return lambda *arguments: CliRunner().invoke(main, ["--labd", served[1], *arguments])


@pytest.mark.parametrize("path", ["policy", "retention"])
def test_what_many_keep_together_is_not_replaced_unseen(served: tuple[Lab, str], path: str) -> None:
    with TestClient(create_app(served[0]), base_url="http://labd.test/api/v1/") as web:
        seen = web.get(path)
        refused = web.put(path, json=seen.json())
        assert (refused.status_code, "send If-Match" in refused.json()["detail"]) == (428, True)
        tag = seen.headers["etag"]
        assert web.put(path, json=seen.json(), headers={"If-Match": tag}).status_code == 200
        assert web.put(path, json=seen.json(), headers={"If-Match": "*"}).status_code == 200
        late = web.put(path, json=seen.json(), headers={"If-Match": '"another"'})
        assert (late.status_code, late.headers["etag"]) == (412, tag)
        assert "somebody has changed it meanwhile" in late.json()["detail"]


def test_of_two_who_change_what_they_saw_one_is_refused(client: LabClient) -> None:
    seen = client.policy()
    mine = client.put_policy({**seen, "ageing_bound_s": 3600}, if_match=seen)
    with pytest.raises(ProblemError) as refused:
        client.put_policy({**seen, "ageing_bound_s": 60}, if_match=seen)
    assert refused.value.status == 412
    assert client.policy() == mine
    client.put_policy({**mine, "ageing_bound_s": 60}, if_match=mine)
    client.put_policy(seen, if_match="*")


def test_a_thing_says_which_version_it_is(client: LabClient) -> None:
    lease = client.heartbeat(client.create_lease(holder="ada", duration_s=60)["id"])
    assert etag_of(lease) == etag_of(client.lease(lease["id"])) == etag_of(client.heartbeat(lease["id"]))
    (listed,) = client.leases("ACTIVE")
    assert etag_of(listed) is None
    with pytest.raises(LabError, match="if_match"):
        client.release(lease["id"], if_match=listed)
    client.extend(lease["id"], 60, if_match=lease)
    with pytest.raises(ProblemError, match="somebody has changed it"):
        client.release(lease["id"], if_match=lease)
    client.release(lease["id"], if_match=client.lease(lease["id"]))


def test_the_asynchronous_client_does_the_same(served: tuple[Lab, str]) -> None:
    async def story() -> None:
        async with AsyncLabClient(served[1], timeout_s=60) as lab:
            made = await lab.put_environment("async", {"A": "1"})
            await lab.put_environment("async", {"A": "2"}, if_match=made)
            with pytest.raises(ProblemError) as refused:
                await lab.put_environment("async", {"A": "3"}, if_match=made)
            assert refused.value.status == 412
            with pytest.raises(ProblemError):
                await lab.remove_environment("async", if_match=made)
            await lab.remove_environment("async", if_match=await lab.environment("async"))

    asyncio.run(story())


@pytest.mark.parametrize("noun", ["policy", "retention"])
def test_labctl_puts_back_what_it_showed_unless_it_changed(noun: str, labctl: Labctl, tmp_path: Path) -> None:
    file = tmp_path / f"{noun}.json"
    file.write_text(labctl(noun, "show", *(["-o", "json"] if noun == "policy" else [])).stdout)
    field = "ageing_bound_s" if noun == "policy" else "audit_days"
    document = json.loads(file.read_text())
    assert document["etag"]
    file.write_text(json.dumps({**document, field: 4711.0}))
    assert labctl(noun, "apply", str(file)).exit_code == 0
    again = labctl(noun, "apply", str(file))
    assert again.exit_code != 0
    assert "somebody has changed it meanwhile" in again.stderr
    del document["etag"]
    file.write_text(json.dumps(document))
    assert labctl(noun, "apply", str(file)).exit_code == 0
    file.write_text("[")
    broken = labctl(noun, "apply", str(file))
    assert f"{noun}.json holds no JSON" in broken.stderr


def test_labctl_changes_the_environment_and_bench_that_were_seen(labctl: Labctl) -> None:
    labctl("env", "set", "staging", "A=1")
    etag = json.loads(labctl("env", "show", "staging", "-o", "json").stdout)["etag"]
    assert labctl("env", "set", "staging", "A=2", "--if-match", etag).exit_code == 0
    assert "somebody has changed it" in labctl("env", "set", "staging", "A=3", "--if-match", etag).stderr
    assert "somebody has changed it" in labctl("env", "rm", "staging", "--if-match", etag).stderr
    assert labctl("env", "rm", "staging").exit_code == 0
    etag = json.loads(labctl("bench", "show", "bench-1", "-o", "json").stdout)["etag"]
    assert labctl("bench", "drain", "bench-1", "--reason", "a fuse", "--if-match", etag).exit_code == 0
    late = labctl("bench", "undrain", "bench-1", "--reason", "new fuse", "--if-match", etag)
    assert "somebody has changed it" in late.stderr
    assert labctl("bench", "undrain", "bench-1", "--reason", "new fuse").exit_code == 0


def test_labctl_lists_what_is_asked_for(client: LabClient, labctl: Labctl) -> None:
    client.create_run(script="return", holder="ci", team="chassis")
    client.create_run(script="return", holder="ada")

    def names(*arguments: str) -> set[str]:
        return {one.get("holder") or one["name"] for one in json.loads(labctl(*arguments, "-o", "json").stdout)}

    assert names("run", "ls", "--team", "chassis") == {"ci"}
    assert names("run", "ls", "--holder", "ada", "--since", "2027-01-15T08:00Z") == {"ada"}
    assert names("run", "ls", "--until", "2027-01-15T07:59Z") == set()
    assert names("lease", "ls", "-a", "--team", "chassis") == {"ci"}
    assert names("lease", "ls", "--holder", "ci", "-l", "name in (bench-1,bench-2)") == {"ci"}
    assert names("bench", "ls", "--state", "leased", "--agent", "agent-1") == {"ci"}
    assert names("bench", "ls", "--health", "offline") == set()
    assert names("agent", "ls", "--state", "unproved") == {"agent-1"}
    assert "no bench is like that" in labctl("bench", "ls", "--team", "chassis").output
