"""A labd that was restored from a backup, and an agent that has gone on since."""

from pathlib import Path

import pytest

from bench_agent.client import BenchClient, BenchError
from deploy.demo.lab import DEMO_AGENT, labd_command, running_lab, service
from labd.client import LabClient, Lease
from labd.services.restoring import restore

PASSPHRASE = "twelve characters"


def _held(lab: LabClient, holder: str) -> Lease:
    return lab.create_lease(selector="name=bench-1", holder=holder, ttl_s=600)


def _read_vin(lease: Lease) -> str:
    """What only the holder may do. Raises BenchError."""
    (one,) = lease["benches"]
    assert one["token"] is not None
    assert one["address"] is not None
    with BenchClient(one["address"], "bench-1", one["token"]) as bench:
        return str(bench.ecu("ECM").call("read", did="VIN"))


def test_who_held_a_bench_since_the_backup_is_cut_off_before_the_next_one_gets_it(tmp_path: Path) -> None:
    backup, folder = tmp_path / "lab.backup", tmp_path / "restored"
    with running_lab(tmp_path / "lab", DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        ada, bob = _held(client, "ada"), _held(client, "bob")
        assert (ada["state"], bob["state"]) == ("GRANTED", "QUEUED")
        with backup.open("wb") as file:
            client.backup(file, PASSPHRASE)
        # The backup knows nothing of what follows: ada and bob leave, carol holds the bench, and uses it.
        client.release(bob["id"])
        client.release(ada["id"])
        lab.wait_for_benches("bench-1")
        carol = _held(client, "carol")
        vin = _read_vin(carol)

        labd = lab.processes.pop("labd")
        labd.kill()
        labd.wait()
        restore(backup, folder / "labd", None, passphrase=PASSPHRASE)
        command = labd_command(folder, lab.http.removeprefix("http://"), lab.agents)
        with service("restored-labd", command, tmp_path) as lab.processes["labd"]:
            lab.wait_for("restored labd", (folder / "labd" / "labd.json").exists)
            lab.wait_for("lease of who waited", lambda: client.lease(bob["id"])["state"] in ("GRANTED", "ACTIVE"))
            granted = client.lease(bob["id"])
            assert granted["benches"][0]["epoch"] > carol["benches"][0]["epoch"] + 1_000_000
            with pytest.raises(BenchError):
                _read_vin(carol)
            assert _read_vin(granted) == vin
            assert client.lease(ada["id"])["end_reason"] == "restored"
            assert client.verify_audit()["sound"]
