"""A lab under load that is hurt again and again, and what its holders have to say of it."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from deploy.demo.lab import Lab, labd_command, service
from labd.client import LabClient, ProblemError
from tests.chaos.benches import bench_name
from tests.chaos.journal import read
from tests.chaos.judge import Final, Violation, judge, judge_logs

READY_S = 60.0
LIVE = ("QUEUED", "GRANTED", "ACTIVE", "ENDING")
STRUCK_IN_START = 0.2
"""Part of the starts of labd that the next blow does not wait for."""
SETTLE_S = 300.0
"""How long the lab may take to serve and end all that was asked for, once nobody hurts it any more."""


@dataclass
class Outcome:
    """What one storm has shown."""

    blows: int
    seconds: float
    up_s: float
    """Of these, how long labd served."""
    requests: int
    """To labd, answered or not; each writes to the store."""
    requests_up: int
    """Of these, while labd served."""
    answered: int
    """Of these, by labd; not: that it cannot now (503)."""
    unanswered: int
    """Requests that met no labd, or none that could serve them."""
    leases: int
    """Acknowledged."""
    calls: int
    """That agents accepted."""
    longest_away_s: float
    """From a blow to the moment at which labd answered again, at the worst."""
    killed_in_start: int
    """Blows that struck before labd served."""
    violations: list[Violation]

    @property
    def offered_rate(self) -> float:
        """Requests a second while labd served."""
        return self.requests_up / self.up_s

    @property
    def answered_rate(self) -> float:
        """Requests that labd has answered, a second while it served."""
        return self.answered / self.up_s


@dataclass
class Storm:
    """A labd under load that can be killed and started again, at the same addresses."""

    folder: Path
    stack: ExitStack
    options: Sequence[str] = ()
    """Further ones of `labd serve`."""
    prefix: Sequence[str] = ()
    """Command in front of labd's, for example faketime."""
    agents_host: str = "127.0.0.1"
    """Where labd takes agents."""
    data: Path | None = None
    """labd's data directory, if not ``folder/labd``."""
    lab: Lab = field(init=False)
    served: list[tuple[float, float]] = field(default_factory=list)
    """From when until when labd served (monotonic, s), over and over; without the last time."""
    killed_in_start: int = 0

    def __post_init__(self) -> None:
        self.lab = Lab(self.folder)
        self._chance = random.Random(1)  # noqa: S311 - moments, no secrets

    @property
    def _ready(self) -> Path:
        return (self.data or self.folder / "labd") / "labd.json"

    def served_until(self, end: float) -> list[tuple[float, float]]:
        """`served`, the present time included, which ``end`` ends."""
        return [*self.served, (since, end)] if (since := self._serving_since()) is not None else self.served

    def _serving_since(self) -> float | None:
        # By the kernel's clock, whatever labd's shows.
        with suppress(FileNotFoundError):
            return time.monotonic() - (time.time() - self._ready.stat().st_mtime)
        return None

    def start(self) -> None:
        """Starts labd, again at the addresses that it had; returns once it serves."""
        self._launch()
        self.wait_until_serving()

    def _launch(self) -> None:
        self._ready.unlink(missing_ok=True)
        http = self.lab.http.removeprefix("http://") or "127.0.0.1:0"
        command = [*labd_command(self.folder, http, self.lab.agents or f"{self.agents_host}:0"), *self.options]
        if self.agents_host != "127.0.0.1":
            command.append("--insecure-on-network")
        if self.data is not None:
            command += ["--data", str(self.data)]  # the last one counts
        self.lab.processes["labd"] = self.stack.enter_context(service("labd", command, self.folder, self.prefix))

    def wait_until_serving(self) -> None:
        """Returns once labd serves."""
        self.lab.wait_for("ready labd", self._ready.exists, deadline_s=READY_S)
        endpoints = json.loads(self._ready.read_text())
        self.lab.http, self.lab.agents = endpoints["http"], endpoints["agents"]

    @property
    def agents_data(self) -> list[Path]:
        """The data directory of each agent."""
        return sorted((self.folder / "fleet").glob("*/data"))

    def add_fleet(self, name: str, numbers: range, *, listen: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        """Starts a process with the agents of these numbers."""
        where = ["--labd", self.lab.agents, "--folder", str(self.folder / "fleet"), "--listen", listen]
        command = ["tests.chaos.fleet", *where, "--agents", f"{numbers.start}-{numbers.stop - 1}"]
        self.lab.processes[name] = self.stack.enter_context(service(name, command, self.folder, prefix))

    def wait_for_benches(self, agents: int) -> None:
        """Returns once the benches of so many agents are available."""
        self.lab.wait_for_benches(*(bench_name(number) for number in range(1, agents + 1)))

    def kill(self) -> None:
        """kill -9, and at once a new one; one start in five is not waited for: the next blow may strike it."""
        since = self._serving_since()
        process = self.lab.processes.pop("labd")
        process.kill()
        now = time.monotonic()
        process.wait()
        if since is None:
            self.killed_in_start += 1
        else:
            self.served.append((since, now))
        self._launch()
        if self._chance.random() >= STRUCK_IN_START:
            self.wait_until_serving()


@contextmanager
def storm(
    folder: Path,
    agents: int,
    *,
    fleets: int = 1,
    options: Sequence[str] = (),
    agents_host: str = "127.0.0.1",
    data: Path | None = None,
) -> Iterator[Storm]:
    """A labd with agents in so many processes, ``fleet-1`` and on, all of whose benches are available."""
    with ExitStack() as stack:
        one = Storm(folder, stack, options, agents_host=agents_host, data=data)
        one.start()
        share = agents // fleets
        for number in range(1, fleets + 1):
            one.add_fleet(f"fleet-{number}", range(share * (number - 1) + 1, share * number + 1))
        one.wait_for_benches(agents)
        yield one


def weather(
    one: Storm, blow: Callable[[], None], *, blows: int, holders: int, rate: float, calm_s: tuple[float, float]
) -> Outcome:
    """Deals the blows under load, each after a pause out of ``calm_s`` (s), and judges what the holders saw."""
    moments = random.Random(blows)  # noqa: S311 - moments, no secrets
    journal = one.folder / "journal.jsonl"
    load = ["tests.chaos.holders", "--url", one.lab.http, "--journal", str(journal)]
    with (one.folder / "holders.log").open("wb") as log:
        command = [sys.executable, "-m", *load, "--holders", str(holders), "--rate", str(rate)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        one.lab.wait_for("first lease", lambda: journal.exists() and journal.stat().st_size > 0)
        for _ in range(blows):
            time.sleep(moments.uniform(*calm_s))  # when it strikes is what chance is for
            blow()
        one.wait_until_serving()
        time.sleep(calm_s[1])
        ended = time.monotonic()
        process.terminate()
        process.wait(SETTLE_S)
    finally:
        process.kill()
        process.wait()
    events = list(read(journal))
    final = _settled(one, {event.lease for event in events if event.op == "create" and event.lease is not None})
    began = min(event.began for event in events)
    served = [(max(since, began), until) for since, until in one.served_until(ended) if until > began]
    requests = [event for event in events if event.op not in ("die", "call")]
    while_up = [event for event in requests if any(since <= event.began <= until for since, until in served)]
    return Outcome(
        blows=blows,
        seconds=ended - began,
        up_s=sum(until - since for since, until in served),
        requests=len(requests),
        requests_up=len(while_up),
        answered=sum((event.status or 500) < 500 for event in while_up),
        unanswered=sum(not event.ok for event in requests),
        leases=len({event.lease for event in events if event.op == "create" and event.ok}),
        calls=sum(event.ok for event in events if event.op == "call"),
        longest_away_s=max((later - former for (_, former), (later, _) in pairwise(served)), default=0.0),
        killed_in_start=one.killed_in_start,
        violations=judge(events, final) + judge_logs(one.agents_data),
    )


def _settled(one: Storm, leases: set[str]) -> dict[str, Final]:
    """What has become of all of these that labd knows, and of all that are not ENDED when the patience is over."""
    deadline = time.monotonic() + SETTLE_S
    with one.lab.client() as client:
        while (live := _live(client)) and time.monotonic() < deadline:
            time.sleep(0.5)
        for lease in leases:
            with suppress(ProblemError):  # it knows no such lease: for the judge
                end = client.lease(lease)
                live[lease] = Final(end["state"], end["end_reason"])
        return live


def _live(client: LabClient) -> dict[str, Final]:
    return {lease["id"]: Final(lease["state"]) for state in LIVE for lease in client.leases(state)}
