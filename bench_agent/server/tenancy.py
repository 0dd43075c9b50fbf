"""What a lease has running on a bench, from its first call to its clean-up."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import can
import structlog

from bench_agent.server import convert
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.cleanup import CleanUpStack, StepOutcome
from bench_agent.server.config import Traces
from bench_agent.server.errors import CleanUpError
from bench_agent.server.recorder import Recorder
from bench_agent.server.trace_keeping import note_team
from bench_agent.server.trace_store import folder
from bench_agent.server.uds_meter import UdsMeter
from ecu_adapters.bus import BusHub, Subscription
from ecu_adapters.description import DEFAULT_SESSION, EcuDescription
from ecu_adapters.uds.link import Link
from ecu_adapters.uds.tester import UdsTester

_TESTER_CLOSE_S = 5.0
_SESSIONS_END_S = 660.0
"""More than the longest S3 that a description can ask for: an ECU that does not answer is waited for."""
_TRACES_END_S = 10.0
_ROUNDING_S = 1e-6
"""More than what a time of day in seconds loses as a float."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a flashing stopped that may go on."""

    image: bytes
    """SHA-256 of the file."""
    base: int | None
    """Where a raw binary was to go."""
    address: int


class Tenancy:
    """What one lease has in use. Nothing of a former lease is visible through it.

    Whatever a call starts that outlives the call pushes its undoing on ``cleanup``.
    """

    def __init__(self, lease: str, cleanup: CleanUpStack, uds_meters: dict[str, UdsMeter] | None = None) -> None:
        """``cleanup`` holds what the bench wants done last; ``uds_meters`` by ECU measure its exchanges."""
        self.lease = lease
        self.since = time.time()
        """Seconds since the Unix epoch; frames from before are somebody else's."""
        self.cleanup = cleanup
        self.recorders: dict[str, Recorder] = {}
        """By bus; none for a bus whose trace could not be begun."""
        self.traces: Path | None = None
        """The folder of this lease's traces."""
        self.traces_fault: str | None = None
        """Why there are none."""
        self._uds_meters = {} if uds_meters is None else uds_meters
        self._subscriptions: dict[str, tuple[BusHub, Subscription]] = {}
        self._testers: dict[str, tuple[Link, UdsTester]] = {}
        self.resume_points: dict[str, ResumePoint] = {}
        """By ECU."""
        self._turns: dict[str, asyncio.Lock] = {}
        self.cleanup.push("end the traces", self.end_traces, deadline_s=_TRACES_END_S)
        self.cleanup.push("close the diagnostic sessions", self.close_testers, deadline_s=_SESSIONS_END_S)

    def start_traces(self, traces: Path, settings: Traces, buses: Mapping[str, AgentBus], team: str) -> None:
        """Records every bus. Blocks for the disk; a trace that cannot be written costs the lease nothing else."""
        self.traces = place = folder(traces, self.lease)
        try:
            for name in buses:
                self.recorders[name] = Recorder(place, name, settings, on_drop=buses[name].watch.drops.add)
            note_team(place, team)
        except OSError as error:
            self.traces_fault = str(error)
            _log.error("no trace of this lease", lease=self.lease, folder=str(place), reason=str(error))

    def bus_up(self, bus: AgentBus) -> None:
        """The bus is open (again): record it."""
        self.bus_down(bus)
        recorder = self.recorders.get(bus.name)
        if recorder is not None and bus.hub is not None:
            self._subscriptions[bus.name] = (bus.hub, bus.hub.tap(recorder.put))

    def bus_down(self, bus: AgentBus) -> None:
        """The bus is closed: what belongs to it is of no use any more."""
        known = self._subscriptions.pop(bus.name, None)
        if known is not None:
            known[1].close()

    def recent(self, hub: BusHub, since_ns: int = 0) -> list[can.Message]:
        """The frames that are still remembered, of this lease only, with a timestamp after ``since_ns``."""
        frames = hub.recent(max(self.since, since_ns / 1e9 - _ROUNDING_S))
        # In ns, as the caller was told: turned into a float, a frame's own stamp may come out a little before itself.
        return [frame for frame in frames if convert.timestamp_ns(frame) > since_ns]

    def turn(self, ecu: str) -> asyncio.Lock:
        """Held during a service on an ECU, which may take several exchanges (seed and key)."""
        return self._turns.setdefault(ecu, asyncio.Lock())

    async def tester(self, link: Link, ecu: EcuDescription) -> UdsTester:
        """The lease's tester for an ECU. Raises ValueError when the ECU's description does not suit the way to it."""
        known = self._testers.get(ecu.name)
        if known is not None:
            if known[0] is link:
                return known[1]
            await known[1].close()  # its bus has failed and was opened anew: nothing is sent
        tester = UdsTester(link, ecu)
        tester.on_exchange = self._uds_meters.setdefault(ecu.name, UdsMeter()).note
        if known is not None:
            tester.session = known[1].session  # the ECU may not have noticed; `close` brings it back
        self._testers[ecu.name] = (link, tester)
        return tester

    async def close_testers(self) -> None:
        """Brings every ECU back to its default session, all at the same time. Raises CleanUpError."""
        testers = list(self._testers.items())
        left = await asyncio.gather(*(_close(tester) for _, (_, tester) in testers))
        # What did not close is tried again with the next clean-up.
        self._testers = {name: entry for (name, entry), fault in zip(testers, left, strict=True) if fault}
        faults = [fault for fault in left if fault]
        if faults:
            raise CleanUpError("; ".join(faults))

    def note_clean_up(self, traces: Path, outcomes: Sequence[StepOutcome]) -> None:
        """Writes beside the traces what became of each step. Blocks for the disk; a full one is logged, no more."""
        path = folder(traces, self.lease) / "clean-up.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"time": time.time(), **asdict(outcome)}) + "\n" for outcome in outcomes)
        except OSError as error:
            _log.error("clean-up is not on record", lease=self.lease, reason=str(error))

    async def end_traces(self) -> None:
        """Writes down what waits, and closes the files."""
        for _, subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()
        recorders, self.recorders = self.recorders, {}
        stopped = await asyncio.gather(*(asyncio.to_thread(recorder.stop) for recorder in recorders.values()))
        if not all(stopped):
            # The thread ends with the disk's answer; it holds a file of its own, and no bus.
            _log.error("the disk is too slow for the traces", lease=self.lease)


async def _close(tester: UdsTester) -> str | None:
    """Why the ECU may still be in a diagnostic session; None when it is not."""
    try:
        async with asyncio.timeout(_TESTER_CLOSE_S):
            await tester.close()
    except TimeoutError:
        return f"the tester of ECU {tester.ecu.name} did not close within {_TESTER_CLOSE_S:g} s"
    if tester.session != DEFAULT_SESSION:
        # It does not answer. No TesterPresent is sent any more, so that S3 ends the session (ISO 14229-2).
        await asyncio.sleep(tester.ecu.timing.s3_ms / 1000)
    return None
