"""The agent's stream to labd: who we are and how the benches do, one way; keys, time and fences, the other.

labd may be away for as long as it likes. The agent dials again for ever, and meanwhile serves the leases it knows.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import grpc
import structlog

from bench_agent.protocol import lab_pb2, lab_pb2_grpc
from bench_agent.protocol.identity import CONTROLLER_NAME
from bench_agent.protocol.transport import PINGS, channel_credentials, expecting
from bench_agent.server.bench import Bench
from bench_agent.server.certificate import AgentCertificate, CertificateError
from bench_agent.server.doors import Doors
from bench_agent.server.guard import Guard
from bench_agent.server.keys import KeyRing
from bench_agent.server.lab_clock import LabClock
from bench_agent.server.point_feed import PointFeed
from bench_agent.server.runners import Runners
from bench_agent.server.trace_keeping import TraceKeeping

REPORT_S = 3.0
"""Longest time between two reports."""
SILENCE_S = 20.0
"""labd ticks every few seconds; after this long without a message the stream is given up."""
RENEWAL_LOOK_S = 60.0
"""How often it is looked whether the certificate is to be renewed."""
RENEWAL_RETRY_S = 1.0
"""How long labd may take to renew it before it is asked again; doubled each time, up to RENEWAL_LOOK_S."""
_OUTBOX = 1024

OPTIONS = (
    *PINGS,
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # Our own back-off decides when to dial; gRPC's would add up to two minutes to it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_log = structlog.get_logger()


class Attachment:
    """Keeps the agent attached to labd until cancelled."""

    def __init__(
        self,
        labd: Sequence[str],
        hello: Callable[[], lab_pb2.Hello],
        benches: Mapping[str, Bench],
        guard: Guard,
        keys: KeyRing,
        clock: LabClock,
        runners: Runners,
        traces: TraceKeeping,
        feed: PointFeed,
        certificate: AgentCertificate | None = None,
        revoked: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """``labd`` has the host:port of each labd. Without a certificate, they are dialled without TLS.

        ``revoked`` is called when labd has revoked it.
        """
        self._doors = Doors(labd)
        self._certificate = certificate
        self._revoked = revoked
        self._hello = hello
        self._benches = benches
        self._guard = guard
        self._keys = keys
        self._clock = clock
        self._runners = runners
        self._traces = traces
        self._feed = feed
        self._changed = asyncio.Event()
        self._changed_benches: set[str] = set()
        self._welcomed = False
        self._introduced_at = 0.0
        self._clearing: set[asyncio.Task[None]] = set()
        self.attached = asyncio.Event()
        """Set while labd's Welcome holds."""

    @property
    def labd(self) -> str:
        """host:port of the labd that the agent is attached to, or dials."""
        return self._doors.current

    def report_soon(self, bench: str) -> None:
        """The bench has changed: labd should hear of it now."""
        self._changed_benches.add(bench)
        self._changed.set()

    async def run(self) -> None:
        """Dials, serves, dials again."""
        while True:
            self._welcomed = False
            labd, reason = self.labd, await self._once()
            self.attached.clear()
            wait = self._doors.move_on(welcomed=self._welcomed)
            _log.warning("not attached to labd", labd=labd, reason=reason, next=self.labd, retry_s=round(wait, 2))
            await asyncio.sleep(wait)

    async def _once(self) -> str:
        """One stream from dialling to its end; returns why it ended."""
        if self._certificate is not None:
            try:
                self._certificate.refresh()
            except (CertificateError, OSError) as error:
                _log.error("the certificate on the disk is not taken over", reason=str(error))
            if (expired := self._certificate.expired) is not None:
                return f"this agent's certificate ran out at {expired}; enrol it anew"
        welcomed_by = asyncio.get_running_loop().time() + self._doors.patience_s
        try:
            async with self._channel() as channel:
                async with asyncio.timeout_at(welcomed_by):
                    await channel.channel_ready()
                call = lab_pb2_grpc.LabStub(channel).Attach()
                return await self._converse(call, welcomed_by)
        except TimeoutError:
            doubt = ""
            if self._certificate is not None:
                doubt = ", or one side does not take the other's certificate (does a proxy end TLS between them?)"
            return f"labd does not answer at {self.labd}{doubt}"
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            return f"stream broke: {error}"

    def _channel(self) -> grpc.aio.Channel:
        if self._certificate is None:
            return grpc.aio.insecure_channel(self.labd, options=OPTIONS)
        credentials = channel_credentials(self._certificate.current())
        return grpc.aio.secure_channel(self.labd, credentials, options=(*OPTIONS, *expecting(CONTROLLER_NAME)))

    async def _converse(
        self, call: "grpc.aio.StreamStreamCall[lab_pb2.AgentMessage, lab_pb2.LabMessage]", welcomed_by: float
    ) -> str:
        outbox: asyncio.Queue[lab_pb2.AgentMessage] = asyncio.Queue(_OUTBOX)
        self._introduced_at = self._clock.local()
        # Before Hello: whatever happens from here on is either in it, or told after it.
        self._runners.on_change = partial(_tell_of_runner, call, outbox)
        hello = self._hello()
        await call.write(lab_pb2.AgentMessage(hello=hello))
        tasks = [
            asyncio.create_task(self._write(call, outbox), name="attach-write"),
            asyncio.create_task(self._report(outbox, hello), name="attach-report"),
            asyncio.create_task(self._feed_points(outbox), name="attach-points"),
        ]
        if self._certificate is not None:
            tasks.append(asyncio.create_task(self._renew(self._certificate, outbox), name="attach-renew"))
        try:
            loop = asyncio.get_running_loop()
            while True:
                async with asyncio.timeout_at(loop.time() + SILENCE_S if self._welcomed else welcomed_by):
                    message = await call.read()
                if not isinstance(message, lab_pb2.LabMessage):
                    # End of the stream; why is in its status.
                    return (await call.details()) or (await call.code()).name
                self._take(message, outbox)
        except TimeoutError:
            return f"labd was silent for {SILENCE_S:g} s" if self._welcomed else "labd took too long to welcome it"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            call.cancel()

    def _take(self, message: lab_pb2.LabMessage, outbox: "asyncio.Queue[lab_pb2.AgentMessage]") -> None:
        if message.lab_time_ms > 0:
            # labd made its Welcome after our Hello; anything later may have waited on the way for as long as it likes.
            way_s = self._clock.local() - self._introduced_at if message.HasField("welcome") else None
            self._guard.report_time(message.lab_time_ms, way_s)
        match message.WhichOneof("message"):
            case "welcome":
                try:
                    self._keys.replace(message.welcome.jwks)
                except ValueError as error:
                    _log.error("labd sent keys that are none; the former ones stay", reason=str(error))
                for fence in message.welcome.fences:
                    self._fence(fence, outbox)
                self._trust(message.welcome.trust)
                self._traces.forget()
                if not self._welcomed:
                    self._welcomed = True
                    self.attached.set()
                    _log.info("attached to labd", labd=self.labd)
            case "fence":
                self._fence(message.fence, outbox)
            case "unshare":
                self._unshare(message.unshare)
            case "extend":
                self._extend(message.extend)
            case "trace_rules":
                self._traces.take(message.trace_rules)
            case "start_runner":
                self._runners.start(message.start_runner)
            case "stop_runner":
                self._runners.stop(message.stop_runner.run_id)
            case "forget_runner":
                self._runners.forget(message.forget_runner.run_id)
            case "certificate":
                self._take_certificate(message.certificate)
            case "revoked":
                self._revoked(message.revoked.reason)
            case "metrics_taken":
                self._feed.taken(message.metrics_taken, message.lab_time_ms)
            case "clear_quarantine":
                self._clear_quarantine(message.clear_quarantine)

    def _trust(self, authorities: bytes) -> None:
        if self._certificate is None:
            return
        try:
            self._certificate.trust(authorities)
        except (CertificateError, OSError) as error:
            _log.error("labd's authorities are not taken over; the former ones stay", reason=str(error))

    def _take_certificate(self, answer: lab_pb2.Certificate) -> None:
        if answer.refusal or self._certificate is None:
            _log.error("labd does not renew the certificate", reason=answer.refusal or "none was asked for")
            return
        try:
            self._certificate.take(answer.chain, answer.trust)
        except (CertificateError, OSError) as error:
            _log.error("the renewed certificate is not taken over; the former one stays", reason=str(error))
        else:
            _log.info("certificate renewed", renewal_at=round(self._certificate.renewal_at))

    async def _renew(self, certificate: AgentCertificate, outbox: "asyncio.Queue[lab_pb2.AgentMessage]") -> None:
        pause = RENEWAL_RETRY_S
        while True:
            wait = certificate.renewal_at - time.time()
            if wait > 0:
                pause = RENEWAL_RETRY_S
                await asyncio.sleep(min(wait, RENEWAL_LOOK_S))  # the clock may be set meanwhile
                continue
            # Made in a thread: no frame waits for a key.
            request = await asyncio.to_thread(certificate.new_request)
            await outbox.put(lab_pb2.AgentMessage(renewal=lab_pb2.Renewal(request=request)))
            await asyncio.sleep(pause)
            pause = min(pause * 2, RENEWAL_LOOK_S)

    def _clear_quarantine(self, order: lab_pb2.ClearQuarantine) -> None:
        bench = self._benches.get(order.bench)
        if bench is None:
            _log.warning("labd clears the quarantine of a bench that is not here", bench=order.bench)
            return
        _log.info("quarantine is to end", bench=order.bench, by=order.by)
        self._guard.gates[order.bench].retry_now()
        task = asyncio.create_task(bench.clear_quarantine(), name=f"clear-{order.bench}")
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    def _unshare(self, order: lab_pb2.Unshare) -> None:
        gate = self._guard.gates.get(order.bench)
        if gate is None:
            _log.warning("labd unshares a bench that is not here", bench=order.bench, epoch=order.epoch)
            return
        gate.start_unshare(order.epoch, order.holder, order.share)

    def _extend(self, order: lab_pb2.Extend) -> None:
        gate = self._guard.gates.get(order.bench)
        if gate is None:
            _log.warning("labd extends the lease of a bench that is not here", bench=order.bench, epoch=order.epoch)
            return
        gate.extend(order.epoch, order.expires_at)

    def _fence(self, fence: lab_pb2.Fence, outbox: "asyncio.Queue[lab_pb2.AgentMessage]") -> None:
        gate = self._guard.gates.get(fence.bench)
        if gate is None:
            _log.warning("labd fences a bench that is not here", bench=fence.bench, epoch=fence.epoch)
            return

        def confirm(task: "asyncio.Task[None]") -> None:
            # When the stream has broken meanwhile, the next Hello says the same.
            if not task.cancelled() and task.exception() is None:
                answer = lab_pb2.Fenced(bench=fence.bench, epoch=fence.epoch)
                # After the report, on its way already, that is all of the news in one piece: the answer is none then.
                _offer(outbox, lab_pb2.AgentMessage(fenced=answer))

        gate.start_fence(fence.epoch, fence.reason or "ended by labd").add_done_callback(confirm)

    async def _report(self, outbox: "asyncio.Queue[lab_pb2.AgentMessage]", hello: lab_pb2.Hello) -> None:
        """Reports benches that have changed at once; those in use, and one in any case, every `REPORT_S`."""
        loop = asyncio.get_running_loop()
        told = {one.description.name: _lasting(one) for one in hello.benches}
        due_at = loop.time() + REPORT_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._changed.wait()
            self._changed.clear()
            due = loop.time() >= due_at
            # What changes without saying so is found when it is time to look at all.
            names = list(self._benches) if due else sorted(self._changed_benches & self._benches.keys())
            self._changed_benches.clear()
            reports = []
            for name in names:
                now = report(self._benches[name], self._guard)
                stands = _lasting(now)
                if told.get(name) != stands or (due and self._guard.gates[name].holder is not None):
                    told[name] = stands
                    reports.append(now)
            if due:
                due_at = loop.time() + REPORT_S
                if not reports:  # a sign of life
                    reports = [report(bench, self._guard) for bench in list(self._benches.values())[:1]]
            for one in reports:
                await outbox.put(lab_pb2.AgentMessage(report=one))

    async def _feed_points(self, outbox: "asyncio.Queue[lab_pb2.AgentMessage]") -> None:
        await self.attached.wait()
        await self._feed.run(outbox.put)

    async def _write(
        self,
        call: "grpc.aio.StreamStreamCall[lab_pb2.AgentMessage, lab_pb2.LabMessage]",
        outbox: "asyncio.Queue[lab_pb2.AgentMessage]",
    ) -> None:
        try:
            while True:
                await call.write(await outbox.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            call.cancel()  # the reader learns why


def _offer(outbox: "asyncio.Queue[lab_pb2.AgentMessage]", message: lab_pb2.AgentMessage) -> None:
    if outbox.full():
        _log.warning("labd reads nothing; a confirmation waits for the next Hello")
    else:
        outbox.put_nowait(message)


def _tell_of_runner(
    call: "grpc.aio.StreamStreamCall[lab_pb2.AgentMessage, lab_pb2.LabMessage]",
    outbox: "asyncio.Queue[lab_pb2.AgentMessage]",
    report: lab_pb2.RunnerReport,
) -> None:
    if outbox.full():
        _log.warning("labd reads nothing; attaching anew")
        call.cancel()  # the next Hello tells
    else:
        outbox.put_nowait(lab_pb2.AgentMessage(runner=report))


def report(bench: Bench, guard: Guard) -> lab_pb2.BenchReport:
    """The bench as it stands now."""
    gate = guard.gates[bench.name]
    return lab_pb2.BenchReport(
        description=bench.describe(),
        fenced_epoch=gate.fenced,
        active_epoch=gate.activity.epoch,
        idle_ms=gate.activity.idle_ms,
    )


def _lasting(one: lab_pb2.BenchReport) -> bytes:
    """What of a report does not change by time alone."""
    copy = lab_pb2.BenchReport()
    copy.CopyFrom(one)
    copy.ClearField("idle_ms")
    return copy.SerializeToString(deterministic=True)
