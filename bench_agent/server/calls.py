"""The calls and streams of those who may act on a bench, and how they are cut."""

import asyncio
import contextlib
from dataclasses import dataclass

from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server.activity import Activity
from bench_agent.server.epochs import Unshared
from bench_agent.server.errors import CleanUpError
from bench_agent.server.rights import no_longer_shared, require, unshared_text

_CALLS_END_S = 5.0
"""How long cut calls may take to end."""


@dataclass(eq=False, slots=True)
class Call:
    """A call or stream that was admitted."""

    claims: LeaseClaims
    task: "asyncio.Task[object]"
    calls: "Calls"
    """Those that it is one of."""
    activity: Activity | None = None
    """Where it counts as traffic of the lease; that of hooks and observers does not."""
    cut_reason: str | None = None

    def require(self, scope: Scope, what: str) -> None:
        """Raises CallError unless the token allows this; ``what`` is what the caller tries to do."""
        require(self.claims, scope, what)

    def touch(self) -> None:
        """The caller has just sent something."""
        if self.activity is not None:
            self.activity.touch(self.claims.epoch)

    def working(self) -> contextlib.AbstractContextManager[None]:
        """The call does something for its caller for as long as the block lasts."""
        return self.activity.work(self.claims.epoch) if self.activity is not None else contextlib.nullcontext()

    def cut(self, reason: str) -> None:
        """Ends the call with PERMISSION_DENIED."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self.task.cancel()


class Calls:
    """The calls of one holder, or of one hook, that are under way."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._idle = asyncio.Event()

    def admit(self, claims: LeaseClaims, activity: Activity | None = None) -> Call:
        """The running task is a call."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is admitted from within its task")
        call = Call(claims, task, self, activity)
        self._calls.add(call)
        return call

    def discard(self, call: Call) -> None:
        """The call is over."""
        self._calls.discard(call)
        if not self._calls:
            self._idle.set()

    def cut(self, reason: str, who: str | None = None) -> None:
        """Ends all calls, or those of one person, with PERMISSION_DENIED."""
        for call in list(self._calls):
            if who is None or call.claims.holder == who:
                call.cut(reason)

    def cut_unshared(self, unshared: Unshared) -> None:
        """Ends the calls of those with whom the lease is shared no more."""
        for call in list(self._calls):
            if no_longer_shared(call.claims, unshared):
                call.cut(unshared_text(call.claims))

    async def ended(self) -> None:
        """Returns once all have ended. Raises CleanUpError when they do not."""
        if self._calls:
            self._idle.clear()
            try:
                async with asyncio.timeout(_CALLS_END_S):
                    await self._idle.wait()
            except TimeoutError:
                raise CleanUpError(f"{len(self._calls)} calls did not end within {_CALLS_END_S:g} s") from None
