"""How long the traces of ended leases stay on this machine: what labd says for each team.

The agent's own settings bound the traces of all teams together (`trace_store.prune`); whichever bound is reached first
counts.
"""

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from bench_agent.protocol import lab_pb2
from bench_agent.server.trace_store import prune, touched

LOOK_S = 60.0
"""How often it is looked for traces that are too old, or too many: beside the leases, as those of a thousand take a
while to look through."""
_TEAM_FILE = "team"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may stay of a team's traces; None: without that bound."""

    max_age_s: float | None = None
    """Since the last frame."""
    max_bytes: int | None = None
    """Of all its traces on this machine."""


@dataclass(frozen=True, slots=True)
class TraceRules:
    """What labd says."""

    default: Bounds = Bounds()
    """Of teams that are not named."""
    teams: Mapping[str, Bounds] = field(default_factory=dict)

    def of(self, team: str) -> Bounds:
        """What may stay of this team's."""
        return self.teams.get(team, self.default)

    @classmethod
    def from_message(cls, message: lab_pb2.TraceRules) -> "TraceRules":
        """As labd sent them."""
        return cls(_bounds(message.default), {team: _bounds(one) for team, one in message.teams.items()})


def _bounds(message: lab_pb2.TraceBounds) -> Bounds:
    return Bounds(
        message.max_age_s if message.HasField("max_age_s") else None,
        message.max_bytes if message.HasField("max_bytes") else None,
    )


def note_team(place: Path, team: str) -> None:
    """Writes down whose traces are in this folder. Raises OSError."""
    if team and place.is_dir():
        (place / _TEAM_FILE).write_text(team)


def prune_teams(traces: Path, rules: TraceRules, in_use: Collection[Path]) -> None:
    """Deletes what the rules do not keep, the oldest first; what is in use stays, and counts. Raises OSError."""
    if not traces.is_dir():
        return
    now = time.time()
    teams: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((path for path in traces.iterdir() if path.is_dir()), key=touched):
        teams[_team_of(path)].append(path)
    for team, places in teams.items():
        bounds = rules.of(team)
        sizes = {path: sum(file.stat().st_size for file in path.iterdir() if file.is_file()) for path in places}
        total = sum(sizes.values())
        for path in places:
            old = bounds.max_age_s is not None and touched(path) < now - bounds.max_age_s
            if path not in in_use and (old or (bounds.max_bytes is not None and total > bounds.max_bytes)):
                shutil.rmtree(path)
                total -= sizes[path]
                _log.info("a team's oldest traces deleted", team=team, folder=str(path), bytes=sizes[path])


def _team_of(place: Path) -> str:
    try:
        return (place / _TEAM_FILE).read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""  # from before teams were written down


class TraceKeeping:
    """Deletes traces from time to time, and at once when labd says something else than before."""

    def __init__(
        self, traces: Path, max_bytes: int, max_age_s: float | None, in_use: Callable[[], Collection[Path]]
    ) -> None:
        """``max_bytes`` and ``max_age_s`` are this machine's own bounds; ``in_use`` has the folders of live leases."""
        self._traces = traces
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._in_use = in_use
        self._changed = asyncio.Event()
        self.rules = TraceRules()

    def take(self, message: lab_pb2.TraceRules) -> None:
        """What labd says from now on."""
        rules = TraceRules.from_message(message)
        if rules != self.rules:
            self.rules = rules
            self._changed.set()

    def forget(self) -> None:
        """A labd welcomes the agent: only what it says from now on counts."""
        self.rules = TraceRules()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._changed.clear()
            try:
                await asyncio.to_thread(self._prune, self.rules, list(self._in_use()))
            except OSError as error:
                _log.error("old traces cannot be deleted", folder=str(self._traces), reason=str(error))
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _prune(self, rules: TraceRules, in_use: Collection[Path]) -> None:
        prune_teams(self._traces, rules, in_use)
        prune(self._traces, self._max_bytes, in_use, max_age_s=self._max_age_s)
