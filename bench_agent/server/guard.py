"""Who may act on a bench: tokens, epochs, expiry, revocation.

One `Gate` per bench. It admits calls of one lease at a time, writes the lease's epoch down before the first of them,
and when the lease ends, cuts its calls, has what they left behind cleaned up, and refuses the epoch for ever after.
"""

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

import grpc
import structlog

from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server.activity import Activity
from bench_agent.server.calls import Call, Calls
from bench_agent.server.epochs import EpochError, Epochs, EpochStore, Unshared
from bench_agent.server.errors import (
    CallError,
    CleanUpError,
    LeaseFailed,
    denied,
    not_found,
    unauthenticated,
    unavailable,
)
from bench_agent.server.holder import Holder
from bench_agent.server.holder_log import HolderLog
from bench_agent.server.keys import KeyRing, KeysMissing, TokenInvalid
from bench_agent.server.lab_clock import LabClock
from bench_agent.server.rights import judge, no_longer_shared, require, unshared_text

_RETRY_S = 2.0
"""Pause before a failed clean-up is tried again; doubled each time, up to _LAST_RETRY_S."""
_LAST_RETRY_S = 30.0
_BETTER_S = 0.01
"""By how much labd's time has to be known better before the ends of leases are worked out anew."""
_LONGEST_TIMER_S = 5.0
"""Timers stand still while the machine is suspended; a lease may have ended meanwhile."""
_PREPARING_S = 3.0
"""How long a new holder's call waits for the bench, before it is told to ask again."""

_Result = TypeVar("_Result")
_log = structlog.get_logger()


class Guarded(Protocol):
    """A bench as the gate sees it."""

    name: str

    async def open_lease(self, lease: str, epoch: int, team: str) -> None:
        """Prepares the bench for a new holder. Raises CallError when it cannot now, LeaseFailed when it never can.

        After LeaseFailed, `close_lease` undoes what was begun.
        """

    async def silence(self) -> None:
        """Stops at once whatever the holder left sending by itself."""

    async def close_lease(self) -> None:
        """Stops and undoes what the holder had running, in bounded time. Raises CleanUpError."""

    async def close_unseen(self, epoch: int) -> None:
        """The lease has ended that a former agent served, and that was not seen since. Raises CleanUpError."""

    def set_clean_up_fault(self, reason: str | None) -> None:
        """Shows in the bench's health that the clean-up fails, or works again (None)."""


class HookPass:
    """The right of one hook to act on the bench, for as long as the gate lets it, by the unix socket alone."""

    def __init__(self, claims: LeaseClaims, *, revocable: bool) -> None:
        """``revocable``: the end of the lease ends the hook as well."""
        self.token = secrets.token_urlsafe(32)
        self.claims = claims
        self.revocable = revocable
        self.calls = Calls()
        self.revoked: str | None = None
        """Why the hook has to end before its time."""
        self._event = asyncio.Event()

    def revoke(self, reason: str) -> None:
        """Ends the hook."""
        self.revoked = self.revoked or reason
        self._event.set()

    async def wait_revoked(self) -> None:
        """Returns once it was revoked."""
        await self._event.wait()


class Gate:
    """Who may act on one bench."""

    def __init__(self, bench: Guarded, store: EpochStore, clock: LabClock, witness: HolderLog | None = None) -> None:
        self._bench = bench
        self._witness = witness or HolderLog(None)
        self._store = store
        self._clock = clock
        epochs = store.get(bench.name)
        self._seen = epochs.seen
        self._refused = epochs.fenced  # up to here, nobody is admitted
        self._reason = "superseded"
        self._fenced = epochs.fenced  # up to here, all is cleaned up and on disk
        self._unshared = epochs.unshared
        self._extended = (0, 0)  # an epoch, and until when (s) its lease was extended
        self.activity = Activity(epochs.seen if epochs.live else 0)
        self.on_fenced: Callable[[], None] | None = None
        """Called when a lease has ended, and all is cleaned up and on disk."""
        self._holder: Holder | None = None
        self._hook: HookPass | None = None
        self._lock = asyncio.Lock()
        self._closing = False
        self._retry = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def fenced(self) -> int:
        """No lease of this or a lower epoch can act any more, and what it had running is cleaned up."""
        return self._fenced

    @property
    def holder(self) -> tuple[str, int] | None:
        """Lease and epoch of the present holder."""
        return (self._holder.lease, self._holder.epoch) if self._holder is not None else None

    async def enter(self, claims: LeaseClaims) -> Call:
        """Admits a call of the running task. `leave` must follow. Raises CallError."""
        claims = self._prolonged(claims)
        self._judge(claims)
        holder = self._holder
        if holder is None or holder.epoch != claims.epoch:
            # A task of its own: a caller that gives up must not leave the bench half handed over.
            taking_over = self._spawn(self._take_over(claims))
            await asyncio.wait({taking_over}, timeout=_PREPARING_S)
            if not taking_over.done():
                message = f"bench {self._bench.name} is being prepared for lease {claims.lease}"
                raise CallError(grpc.StatusCode.UNAVAILABLE, message, preparing=True)
            holder = taking_over.result()
            self._judge(claims)
        if holder.take(claims):
            self._arm(holder)
        call = holder.calls.admit(claims, self.activity if claims.scope.allows(Scope.CO_DRIVER) else None)
        call.touch()
        self._witness.acted(claims, 1)
        return call

    def enter_hook(self, token: str) -> Call | None:
        """Admits a call of the hook that runs now, if the token is its pass. `leave` must follow."""
        hook = self._hook
        if hook is None or not hmac.compare_digest(hook.token.encode(), token.encode("utf-8", "replace")):
            return None
        return hook.calls.admit(hook.claims)

    def leave(self, call: Call) -> None:
        """The call touches the bench no more."""
        if self._holder is not None and call.calls is self._holder.calls:
            self._witness.acted(call.claims)
        call.calls.discard(call)

    @contextlib.asynccontextmanager
    async def hook_pass(self, lease: str, epoch: int, name: str) -> AsyncIterator[HookPass]:
        """Lets a hook act on the bench for as long as the block lasts. Only within `open_lease` and `close_lease`.

        A hook before the lease ends with the lease. Raises LeaseFailed when that has ended already, CallError when the
        agent stops, CleanUpError when a call of the hook does not end.
        """
        revocable = name == "before_lease"
        if self._closing:
            raise unavailable("the agent is stopping")
        if revocable and epoch <= self._refused:
            raise LeaseFailed(self._reason)
        claims = LeaseClaims(lease, self._bench.name, epoch, f"hook {name}", Scope.HOLDER, 0)
        hook = self._hook = HookPass(claims, revocable=revocable)
        try:
            yield hook
        finally:
            self._hook = None
            hook.calls.cut(f"hook {name} is over")
            await hook.calls.ended()

    def start_fence(self, epoch: int, reason: str) -> "asyncio.Task[None]":
        """`fence` as a task that lives on when nobody waits for it."""
        return self._spawn(self.fence(epoch, reason))

    async def fence(self, epoch: int, reason: str) -> None:
        """Refuses every lease up to ``epoch`` from now on. Returns when its calls have ended and all is cleaned up.

        A clean-up that fails is tried again until it works; meanwhile the bench is unhealthy and admits nobody.
        """
        self._refuse(epoch, reason)
        pause = _RETRY_S
        while self._fenced < epoch:
            try:
                async with self._lock:
                    await self._clean_up(epoch)
            except (CleanUpError, EpochError) as error:
                _log.error("clean-up failed", bench=self._bench.name, epoch=epoch, reason=str(error))
                self._bench.set_clean_up_fault(f"clean-up after the lease of epoch {epoch} failed: {error}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._retry.wait()
                self._retry.clear()
                pause = min(pause * 2, _LAST_RETRY_S)

    def extend(self, epoch: int, expires_at: int) -> None:
        """All tokens of the lease of ``epoch`` are good until ``expires_at`` (s since the Unix epoch, labd's clock).

        Forgotten when the agent stops: labd says it again when the agent attaches.
        """
        self._extended = max(self._extended, (epoch, expires_at))
        if self._holder is not None and self._holder.epoch == epoch:
            self._holder.prolong(expires_at)
            self._arm(self._holder)

    def _prolonged(self, claims: LeaseClaims) -> LeaseClaims:
        epoch, expires_at = self._extended
        if claims.epoch != epoch or claims.expires_at >= expires_at:
            return claims
        return replace(claims, expires_at=expires_at)

    def start_unshare(self, epoch: int, who: str, number: int) -> "asyncio.Task[None]":
        """Refuses somebody with whom the lease of ``epoch`` is shared no more, and ends their calls, from now on.

        ``number``: of their share; tokens of a later one are taken. The task writes it down, so that a new start of the
        agent changes nothing; should the disk refuse, labd says it again when the agent attaches.
        """
        self._unshared |= Unshared(epoch, {who: number})
        if self._holder is not None and self._holder.epoch == epoch:
            self._holder.calls.cut_unshared(self._unshared)
        return self._spawn(self._keep_unshared())

    async def _keep_unshared(self) -> None:
        try:
            await asyncio.to_thread(self._store.save, self._bench.name, Epochs(unshared=self._unshared))
        except EpochError as error:
            _log.error("not written down that a lease is shared no more", bench=self._bench.name, reason=str(error))

    def retry_now(self) -> None:
        """A clean-up that failed is tried again without waiting any longer."""
        self._retry.set()

    def clock_changed(self) -> None:
        """labd's time was adjusted: the lease's end may have moved."""
        if self._holder is not None:
            self._holder.refine()
            self._arm(self._holder)

    def shut(self, reason: str) -> None:
        """Ends all calls at once, and admits none any more."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        if self._holder is not None:
            self._holder.calls.cut(reason)
        if self._hook is not None:
            self._hook.revoke(reason)

    async def close(self) -> None:
        """The agent stops: ends all calls and cleans up, without fencing the lease. Raises CleanUpError."""
        self.shut("the agent is stopping")
        async with self._lock:
            await self._end_holder()

    def _judge(self, claims: LeaseClaims) -> None:
        if self._closing:
            raise unavailable("the agent is stopping")
        holder = self._holder
        if holder is not None and holder.epoch == claims.epoch:
            left_s = holder.left_s(claims.expires_at)
        else:
            left_s = claims.expires_at - self._clock.now()
        verdict = judge(claims, self._bench.name, left_s=left_s, seen=self._seen, fenced=self._refused)
        if verdict is None and no_longer_shared(claims, self._unshared):
            raise denied(unshared_text(claims))
        if verdict is not None:
            if verdict.superseded and claims.epoch <= self._refused:
                raise denied(f"{verdict.message} ({self._reason})")
            raise denied(verdict.message) if verdict.sound else unauthenticated(verdict.message)

    async def _take_over(self, claims: LeaseClaims) -> Holder:
        async with self._lock:
            self._judge(claims)  # time has passed since the lock was asked for
            if self._holder is not None and self._holder.epoch == claims.epoch:
                return self._holder
            try:
                if claims.epoch - 1 > self._fenced:
                    self._refuse(claims.epoch - 1, "a newer lease has begun")
                    await self._clean_up(claims.epoch - 1)
                await asyncio.to_thread(self._store.save, self._bench.name, Epochs(claims.epoch, self._fenced))
            except (CleanUpError, EpochError) as error:
                raise unavailable(f"bench {self._bench.name} cannot be handed over: {error}") from error
            self._seen = max(self._seen, claims.epoch)
            holder = Holder(claims.lease, claims.epoch, self._clock)
            self._witness.begin(claims)
            try:
                await self._bench.open_lease(claims.lease, claims.epoch, claims.team)
            except LeaseFailed as error:
                self._holder = holder  # for its clean-up: no call of it is admitted any more
                if not self._closing:
                    self._refuse(claims.epoch, str(error))
                    self.start_fence(claims.epoch, str(error))
                self._judge(claims)
                raise denied(str(error)) from error
            except asyncio.CancelledError:
                self._holder = holder  # the agent stops: what was begun is cleaned up
                raise
            self._holder = holder
            holder.take(claims)
            self._arm(holder)
            return holder

    def _refuse(self, epoch: int, reason: str) -> None:
        if epoch > self._refused:
            self._refused, self._reason = epoch, reason
        holder = self._holder
        if holder is not None and holder.epoch <= epoch:
            holder.calls.cut(f"lease {holder.lease} on bench {self._bench.name} has ended: {reason}")
        hook = self._hook
        if hook is not None and hook.revocable and hook.claims.epoch <= epoch:
            hook.revoke(f"the lease has ended: {reason}")

    async def _clean_up(self, epoch: int) -> None:
        """Raises CleanUpError or EpochError, with nothing confirmed."""
        if self._fenced >= epoch:
            return
        if self._holder is not None and self._holder.epoch <= epoch:
            await self._end_holder()
        elif self._holder is None and self._fenced < self._seen <= epoch:
            await self._bench.close_unseen(self._seen)
        await asyncio.to_thread(self._store.save, self._bench.name, Epochs(self._seen, epoch))
        self._fenced = max(self._fenced, epoch)
        self._bench.set_clean_up_fault(None)
        if self.on_fenced is not None:
            self.on_fenced()

    async def _end_holder(self) -> None:
        holder = self._holder
        if holder is None:
            return
        if holder.timer is not None:
            holder.timer.cancel()
        # Calls may take seconds to end; the bus must not wait for them.
        await self._bench.silence()
        await holder.calls.ended()
        await self._bench.close_lease()
        self._witness.end(self._bench.name, holder.lease, holder.epoch)
        self._holder = None

    def _arm(self, holder: Holder) -> None:
        if holder.timer is not None:
            holder.timer.cancel()
        left = min((left for left in holder.rights_left_s if left > 0), default=0.0)
        holder.timer = asyncio.get_running_loop().call_later(min(left, _LONGEST_TIMER_S), self._look, holder)

    def _look(self, holder: Holder) -> None:
        """Something may be over."""
        if holder is not self._holder:
            return
        if any(left > 0 for left in holder.rights_left_s):
            holder.cut_outlived()
            self._arm(holder)
        else:
            self.start_fence(holder.epoch, "expired")

    def _spawn(self, work: Coroutine[object, object, _Result]) -> "asyncio.Task[_Result]":
        task = asyncio.create_task(work, name=f"gate-{self._bench.name}")
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)
        return task

    def _spawned_done(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), CallError):
            _log.error("gate failed", bench=self._bench.name, exc_info=task.exception())


class Guard:
    """The gates of all benches behind one agent."""

    def __init__(
        self,
        benches: Iterable[Guarded],
        keys: KeyRing,
        store: EpochStore,
        clock: LabClock,
        witness: HolderLog | None = None,
    ) -> None:
        """``witness`` is told who has which bench; None: nobody is."""
        self._keys = keys
        self._clock = clock
        self._known = clock.timeline, clock.to_local(0.0)
        """labd's time as the gates go by it."""
        self._witness = witness or HolderLog(None)
        self.gates: Mapping[str, Gate] = {bench.name: Gate(bench, store, clock, self._witness) for bench in benches}

    async def enter(
        self,
        token: str | None,
        bench: str | None,
        *,
        local: bool = False,
        leases: Collection[str] | None = None,
        needs: Scope = Scope.HOLDER,
        what: str = "this",
    ) -> tuple[Gate, Call]:
        """Admits a call of the running task that came with these metadata. Raises CallError.

        ``local``: it came by the unix socket, as the calls of hooks must. ``leases`` are those that the caller's
        certificate is for; None: none is asked for. ``needs`` is what the token must allow for ``what`` its bearer
        tries to do.
        """
        if not token:
            raise unauthenticated("no lease token: send metadata 'authorization: Bearer <lease token>'")
        if local and (hooked := self.gates.get(bench or "")) is not None:
            call = hooked.enter_hook(token)
            if call is not None:
                return hooked, call
        try:
            claims = self._keys.verify(token)
        except TokenInvalid as error:
            raise unauthenticated(str(error)) from error
        except KeysMissing as error:
            raise unavailable(str(error)) from error
        if leases is not None and claims.lease not in leases:
            raise denied(
                f"lease token is of lease {claims.lease}, the caller's certificate of {', '.join(leases) or 'none'}"
            )
        bench = bench or claims.bench
        gate = self.gates.get(bench)
        if gate is None:
            raise not_found(f"this agent has no bench {bench!r}; it has {', '.join(sorted(self.gates))}")
        require(claims, needs, what)
        return gate, await gate.enter(claims)

    def report_time(self, lab_time_ms: int, way_s: float | None = None) -> None:
        """labd's clock as just received (ms), under way for no more than ``way_s``; None where nothing says."""
        self._clock.report(lab_time_ms, way_s)
        known = self._clock.timeline, self._clock.to_local(0.0)
        if known[0] != self._known[0] or abs(known[1] - self._known[1]) > _BETTER_S:
            self._known = known
            for gate in self.gates.values():
                gate.clock_changed()

    def shut(self, reason: str) -> None:
        """Ends all calls at once, and admits none any more. `close` cleans up."""
        for gate in self.gates.values():
            gate.shut(reason)

    async def close(self) -> None:
        """Ends all calls and cleans all benches up, side by side; what fails is logged."""
        outcomes = await asyncio.gather(*(gate.close() for gate in self.gates.values()), return_exceptions=True)
        for name, outcome in zip(self.gates, outcomes, strict=True):
            if outcome is not None:
                _log.warning("bench not clean at the end", bench=name, reason=str(outcome) or type(outcome).__name__)
        self._witness.close()
