"""``Lab.Attach``: one bidirectional stream per agent, for as long as the agent lives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from bench_agent.protocol import lab_pb2, lab_pb2_grpc
from labd.agents.messages import fence_of, message_of, report_of, runner_of
from labd.services.fleet import BenchReport, Fleet, Order, Session
from labd.services.lab import Lab

TICK_S = 3.0
"""From one sign of life to the next."""
SILENCE_S = 15.0
"""An agent that says nothing for this long is offline."""
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

    def send(self, order: Order) -> None:
        """See `AgentLink.send`."""
        self._call(self._put, order)

    def close(self, reason: str) -> None:
        """See `AgentLink.close`."""
        self._call(self._close, reason)

    async def next_order(self, timeout_s: float) -> Order | None:
        """The next order; None when there was none in time."""
        try:
            return await asyncio.wait_for(self._orders.get(), timeout_s)
        except TimeoutError:
            return None

    def _call(self, function: Any, argument: object) -> None:
        # A loop that is closed has no agents any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, argument)

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
        self._fleet: Fleet = lab.fleet
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
        hello = await self._hello(request_iterator, context)
        link = _Link(asyncio.get_running_loop())
        self._links.add(link)
        try:
            reports = [report_of(report) for report in hello.benches]
            runners = [runner_of(runner) for runner in hello.runners]
            session, orders = await asyncio.to_thread(
                self._fleet.attach, hello.agent, hello.address, reports, link, runners
            )
            reason = "the stream broke"
            try:
                welcome = lab_pb2.Welcome(jwks=self._lab.core.signer.jwks, fences=[fence_of(order) for order in orders])
                await context.write(self._message(welcome=welcome))
                reason = await self._serve(session, link, request_iterator, context)
            finally:
                # Also when cancelled: the fleet must know.
                await asyncio.shield(asyncio.to_thread(self._fleet.detach, session, reason))
        finally:
            self._links.discard(link)
        await context.abort(grpc.StatusCode.UNAVAILABLE, reason)

    async def _hello(self, requests: AsyncIterator[lab_pb2.AgentMessage], context: _Context) -> lab_pb2.Hello:
        try:
            first = await asyncio.wait_for(anext(requests), self._silence_s)
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
        return hello

    async def _serve(
        self,
        session: Session,
        link: _Link,
        requests: AsyncIterator[lab_pb2.AgentMessage],
        context: _Context,
    ) -> str:
        """Why the stream ended."""
        reading = asyncio.create_task(self._read(session, requests))
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

    async def _read(self, session: Session, requests: AsyncIterator[lab_pb2.AgentMessage]) -> str:
        while True:
            try:
                message = await asyncio.wait_for(anext(requests), self._silence_s)
            except TimeoutError:
                return f"the agent said nothing for {self._silence_s:g} s"
            except StopAsyncIteration:
                return "the agent hung up"
            match message.WhichOneof("message"):
                case "report":
                    report: BenchReport = report_of(message.report)
                    await asyncio.to_thread(self._fleet.report, session, report)
                case "fenced":
                    fenced = message.fenced
                    await asyncio.to_thread(self._fleet.fenced, session, fenced.bench, fenced.epoch)
                case "runner":
                    await asyncio.to_thread(self._fleet.runner_changed, session, runner_of(message.runner))
                case other:
                    _log.warning("agent message ignored", agent=session.agent, kind=other)

    async def _write(self, session: Session, link: _Link, context: _Context) -> str:
        while True:
            order = await link.next_order(self._tick_s)
            if order is not None:
                await context.write(self._message(**message_of(order)))
            else:
                await context.write(self._message(tick=lab_pb2.Tick()))
                self._fleet.repeat_orders(session)

    def _message(self, **kind: Any) -> lab_pb2.LabMessage:
        return lab_pb2.LabMessage(lab_time_ms=round(self._lab.core.clock.now() * 1000), **kind)
