"""``Lab.Attach``: one bidirectional stream per agent, for as long as the agent lives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import structlog

from bench_agent.protocol import lab_pb2, lab_pb2_grpc, release
from bench_agent.protocol.identity import AgentIdentity
from bench_agent.protocol.transport import peer_names
from labd.agents.intake import Intake
from labd.agents.messages import batch_of, fence_of, message_of, report_of, runner_of, trace_rules_of
from labd.model.retention import Retention
from labd.services.attachment import (
    CertificateAnswer,
    Fenced,
    Gone,
    Hello,
    Order,
    PointsTaken,
    Reported,
    RunnerChanged,
    Said,
    Session,
)
from labd.services.enrolment import NotAdmitted
from labd.services.errors import ServiceError
from labd.services.lab import Lab
from labd.store.errors import StoreError

TICK_S = 3.0
"""From one sign of life to the next."""
SILENCE_S = 15.0
"""An agent that says nothing for this long is offline."""
REVOKED_S = 0.5
"""How long an agent may take to read that it was revoked."""
INBOX_MAX = 64
"""What an agent may have said that is not durable yet; it is read on when some of it is."""
OUTBOX_MAX = 256
"""Orders an agent may leave unread before its stream is ended; it learns them again when it attaches anew."""

_log = structlog.get_logger()
_Context = grpc.aio.ServicerContext[lab_pb2.AgentMessage, lab_pb2.LabMessage]


class _Link:
    """The way to one attached agent."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._orders: asyncio.Queue[Order] = asyncio.Queue(OUTBOX_MAX)
        self.closed: asyncio.Future[str] = loop.create_future()
        self.room = asyncio.Semaphore(INBOX_MAX)
        """For what the agent says."""
        self.revoked = False
        """The agent is to be told so before the stream ends."""
        self.measured: asyncio.Task[None] | None = None
        """Takes in what the agent has measured; it waits for the answer before it sends more."""

    def send(self, order: Order) -> None:
        """See `AgentLink.send`."""
        self.call(self._put, order)

    def close(self, reason: str, *, revoked: bool = False) -> None:
        """See `AgentLink.close`."""
        self.revoked = self.revoked or revoked
        self.call(self._close, reason)

    async def next_order(self, timeout_s: float) -> Order | None:
        """The next order; None when there was none in time."""
        # Not wait_for: before Python 3.12 it forgets that it was cancelled when an order comes in the same moment.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await self._orders.get()
        return None

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Has it called on the loop, from any thread."""
        # A loop that is closed has no agents any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _put(self, order: Order) -> None:
        try:
            self._orders.put_nowait(order)
        except asyncio.QueueFull:
            self._close(f"the agent left {OUTBOX_MAX} orders unread")

    def _close(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)


class LabServicer(lab_pb2_grpc.LabServicer):
    """Brings agents and the fleet together."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._fleet = lab.fleet
        self._intake = Intake(lab.hearing.hear)
        self._tick_s = TICK_S
        self._silence_s = SILENCE_S
        self._links: set[_Link] = set()

    def hang_up(self) -> None:
        """Ends every stream: labd stops."""
        for link in self._links:
            link.close("labd stops")

    async def Attach(  # type: ignore[override]  # the stubs know generators only; grpc.aio takes context.write too
        self, request_iterator: AsyncIterator[lab_pb2.AgentMessage], context: _Context
    ) -> None:
        """Serves one agent until either side ends the stream, or the agent falls silent."""
        try:
            await self._attach(request_iterator, context)
        except StoreError as error:
            _log.warning("an agent cannot attach now", reason=str(error))
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def _attach(self, request_iterator: AsyncIterator[lab_pb2.AgentMessage], context: _Context) -> None:
        identity = await self._identity(context)
        hello = await self._hello(request_iterator, context)
        if identity is not None and hello.agent != identity.name:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"Hello is by agent {hello.agent!r}, the certificate of agent {identity.name!r}",
            )
        link = _Link(asyncio.get_running_loop())
        self._links.add(link)
        try:
            session = self._lab.hearing.session(hello.agent, hello.address, link)
            reports = [report_of(report) for report in hello.benches]
            runners = [runner_of(runner) for runner in hello.runners]
            reason = "the stream broke"
            try:
                await asyncio.shield(self._intake.put(Hello(session, reports, runners)))
                welcome = lab_pb2.Welcome(
                    jwks=self._lab.core.signer.jwks,
                    fences=[fence_of(order) for order in session.welcome],
                    trust=self._trust,
                )
                await context.write(self._message(welcome=welcome))
                if identity is not None:
                    await self._admit(identity, context)  # again: it may have been revoked while it attached
                reason = await self._serve(session, link, request_iterator, context, identity)
            finally:
                # Also when cancelled: the fleet must know.
                detached = self._intake.put(Gone(session, reason))
                if link.revoked:
                    await self._tell_revoked(reason, context)
                try:
                    await asyncio.shield(detached)
                except StoreError as error:  # made up for when labd has its database again, or by the other labds
                    _log.warning("an agent's leaving is not written down", agent=session.agent, reason=str(error))
        finally:
            self._links.discard(link)
        revoked = grpc.StatusCode.PERMISSION_DENIED
        await context.abort(revoked if link.revoked else grpc.StatusCode.UNAVAILABLE, reason)

    @property
    def _trust(self) -> bytes:
        return b"" if self._lab.authority is None else self._lab.authority.trust

    async def _identity(self, context: _Context) -> AgentIdentity | None:
        """Whose certificate it is, which is admitted; None where there is no TLS."""
        if self._lab.authority is None:
            return None
        names = peer_names(context.auth_context())
        identity = next(filter(None, map(AgentIdentity.from_uri, names)), None)
        if identity is None:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is no agent's, but of {', '.join(names) or 'nobody'}",
            )
        await self._admit(identity, context)
        return identity

    async def _admit(self, identity: AgentIdentity, context: _Context) -> None:
        try:
            await asyncio.to_thread(self._lab.enrolment.admit, identity)
        except NotAdmitted as error:
            _log.warning("agent refused", agent=identity.name, enrolment=identity.enrolment, reason=str(error))
            if error.revoked:
                await self._tell_revoked(str(error), context)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))

    async def _tell_revoked(self, reason: str, context: _Context) -> None:
        # One that reads nothing is left without the message.
        with contextlib.suppress(TimeoutError, grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            async with asyncio.timeout(REVOKED_S):
                await context.write(self._message(revoked=lab_pb2.Revoked(reason=reason)))

    async def _hello(self, requests: AsyncIterator[lab_pb2.AgentMessage], context: _Context) -> lab_pb2.Hello:
        try:
            async with asyncio.timeout(self._silence_s):
                first = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Hello, and come at once")
        if first.WhichOneof("message") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Hello")
        hello = first.hello
        names = [report.description.name for report in hello.benches]
        if not hello.agent or not hello.address or not all(names) or len(set(names)) != len(names):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Hello needs an agent name ({hello.agent!r}), an address ({hello.address!r}), "
                f"and a name of its own for each bench ({names!r})",
            )
        if not release.is_alike(hello.version, release.VERSION):
            wrong = release.remedy(f"agent {hello.agent!r}", hello.version, release.VERSION)
            _log.warning("agent refused", agent=hello.agent, address=hello.address, reason=wrong)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"version: {wrong}")
        return hello

    async def _serve(
        self,
        session: Session,
        link: _Link,
        requests: AsyncIterator[lab_pb2.AgentMessage],
        context: _Context,
        identity: AgentIdentity | None,
    ) -> str:
        """Why the stream ended."""
        reading = asyncio.create_task(self._read(session, link, requests, identity))
        writing = asyncio.create_task(self._write(session, link, context))
        tasks = (reading, writing, link.closed)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            return f"the stream broke: {error}"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if link.measured is not None:
                link.measured.cancel()
                await asyncio.gather(link.measured, return_exceptions=True)

    async def _read(
        self,
        session: Session,
        link: _Link,
        requests: AsyncIterator[lab_pb2.AgentMessage],
        identity: AgentIdentity | None,
    ) -> str:
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await anext(requests)
            except TimeoutError:
                return f"the agent said nothing for {self._silence_s:g} s"
            except StopAsyncIteration:
                return "the agent hung up"
            match message.WhichOneof("message"):
                case "report":
                    await self._take_in(link, Reported(session, report_of(message.report)))
                case "fenced":
                    await self._take_in(link, Fenced(session, message.fenced.bench, message.fenced.epoch))
                case "runner":
                    await self._take_in(link, RunnerChanged(session, runner_of(message.runner)))
                case "metrics":
                    self._take_points(session, link, message.metrics)
                case "renewal" if identity is not None:
                    link.send(await asyncio.to_thread(self._renewed, identity, message.renewal.request))
                case other:
                    _log.warning("agent message ignored", agent=session.agent, kind=other)

    async def _take_in(self, link: _Link, said: Said) -> None:
        """Returns once the next message may be read. What fails ends the stream: the agent says all in its Hello."""

        def taken(outcome: "asyncio.Future[None]") -> None:
            link.room.release()
            if not outcome.cancelled() and (error := outcome.exception()) is not None:
                _log.error("what an agent said is not taken in", agent=said.session.agent, reason=str(error))
                link.close(f"labd could not take in what the agent said: {error}")

        await link.room.acquire()
        self._intake.put(said).add_done_callback(taken)

    def _take_points(self, session: Session, link: _Link, metrics: lab_pb2.Metrics) -> None:
        if link.measured is not None and not link.measured.done():
            self._lab.agent_points.refuse(session.agent, len(metrics.points))
            return
        link.measured = asyncio.create_task(self._answer_points(session, link, metrics), name="agent-points")

    async def _answer_points(self, session: Session, link: _Link, metrics: lab_pb2.Metrics) -> None:
        """Beside the stream: what the agent says of its benches waits for no figures."""
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        try:
            receipt = await asyncio.to_thread(lambda: self._lab.agent_points.take(session, batch_of(metrics)))
        except Exception:
            _log.exception("what an agent has measured is not taken in", agent=session.agent)
            return
        if receipt is None:
            return
        on_disk = asyncio.Event()
        receipt.kept.add_done_callback(lambda _: link.call(on_disk.set))
        await asyncio.sleep(receipt.wait_s)
        await on_disk.wait()
        link.send(PointsTaken(metrics.spool, metrics.number, loop.time() - came_at))

    def _renewed(self, identity: AgentIdentity, request: bytes) -> CertificateAnswer:
        try:
            return CertificateAnswer(self._lab.enrolment.renew(identity, request).chain, self._trust)
        except (NotAdmitted, ServiceError) as error:
            return CertificateAnswer(b"", self._trust, str(error))

    async def _write(self, session: Session, link: _Link, context: _Context) -> str:
        told = trace_rules_of(Retention())  # what an agent takes for granted from Welcome on
        while True:
            rules = trace_rules_of(self._lab.retaining.known)
            if rules != told:
                await context.write(self._message(trace_rules=rules))
                told = rules
            order = await link.next_order(self._tick_s)
            if order is not None:
                await context.write(self._message(**message_of(order)))
            else:
                await context.write(self._message(tick=lab_pb2.Tick()))
                self._fleet.repeat_orders(session)

    def _message(self, **kind: Any) -> lab_pb2.LabMessage:
        return lab_pb2.LabMessage(lab_time_ms=round(self._lab.core.clock.now() * 1000), **kind)
