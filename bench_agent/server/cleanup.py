"""What a lease leaves behind, and how each of it is undone: a stack of steps, run in reverse at every end of a lease.

What sends by itself is silenced first, whatever was started last: the next holder must not meet a former one's frame
because an ECU took its second to leave a session.
"""

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

_log = structlog.get_logger()

Undo = Callable[[], Awaitable[None]]


class Phase(enum.IntEnum):
    """Which steps run before which; within a phase the last one pushed runs first."""

    SILENCE = 0
    """Stops what puts frames on a bus by itself: cyclic messages, rest-bus, replay, gateways."""
    UNDO = 1
    """Everything else: sessions, consoles, power, traces."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of one step."""

    name: str
    elapsed_s: float
    fault: str | None
    """Why it failed; None when it did not."""


@dataclass(eq=False, slots=True)
class Step:
    """Something that must be undone."""

    name: str
    undo: Undo
    deadline_s: float
    phase: Phase


class CleanUpStack:
    """Steps of one lease. Used on one asyncio loop."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._outcomes: dict[Step, StepOutcome] = {}

    @property
    def outcomes(self) -> list[StepOutcome]:
        """The latest of each step that was tried, in the order in which they were tried first."""
        return list(self._outcomes.values())

    def push(self, name: str, undo: Undo, *, deadline_s: float, phase: Phase = Phase.UNDO) -> Step:
        """``undo`` raises when it fails. It may be called again after it failed, and must bear that."""
        step = Step(name, undo, deadline_s, phase)
        self._steps.append(step)
        return step

    def drop(self, step: Step) -> None:
        """What the step would undo is over already. Dropping twice does nothing."""
        self._steps = [other for other in self._steps if other is not step]

    def has(self, name: str) -> bool:
        """Whether a step of this name waits."""
        return any(step.name == name for step in self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    async def silence(self) -> list[StepOutcome]:
        """The first phase alone: from here on nothing of the lease sends by itself."""
        return [await self._take(step) for step in self._newest_first() if step.phase is Phase.SILENCE]

    async def run(self) -> list[StepOutcome]:
        """Runs all steps, each within its deadline, whatever becomes of the others. Steps that failed stay."""
        return [await self._take(step) for step in sorted(self._newest_first(), key=lambda step: step.phase)]

    def _newest_first(self) -> list[Step]:
        return self._steps[::-1]

    async def _take(self, step: Step) -> StepOutcome:
        outcome = self._outcomes[step] = await _run(step)
        if outcome.fault is None:
            self.drop(step)
        else:
            _log.error("clean-up step failed", step=step.name, reason=outcome.fault)
        return outcome


async def _run(step: Step) -> StepOutcome:
    started, fault = time.monotonic(), None
    try:
        async with asyncio.timeout(step.deadline_s):
            await step.undo()
    except TimeoutError as error:
        fault = str(error) or f"{step.name} took longer than {step.deadline_s:g} s"
    except Exception as error:
        # Whatever a driver raises: the other steps must be tried all the same.
        fault = f"{step.name}: {str(error) or type(error).__name__}"
    return StepOutcome(step.name, time.monotonic() - started, fault)
