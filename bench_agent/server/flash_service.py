"""Flashing over gRPC: takes the image, then reports until the verdict."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench_agent.protocol import flash_pb2, flash_pb2_grpc
from bench_agent.server.door import Context
from bench_agent.server.errors import in_use, invalid
from bench_agent.server.leased import Leased
from bench_agent.server.simulated_node import SimulatedNode
from bench_agent.server.tenancy import ResumePoint, Tenancy
from ecu_adapters.description import EcuDescription
from ecu_adapters.flash import image, plan
from ecu_adapters.flash.flasher import Flasher, FlashError, Progress
from ecu_adapters.transport import TransportError
from ecu_adapters.uds.link import Link
from ecu_adapters.uds.names import nrc_meaning, nrc_name
from ecu_adapters.uds.tester import UdsTester

LARGEST = 256 << 20
"""Bytes of an image file; Intel HEX takes almost three for each of the ECU's 64 MiB."""
_TURN_S = 10.0
"""How long another request to the ECU may keep a flashing waiting."""
_UPLOAD_S = 60.0
"""How long the image's next bytes may take."""
_PACE_S = 0.1
"""Least time between two events."""


@dataclass(frozen=True, slots=True)
class _Upload:
    start: flash_pb2.FlashStart
    content: bytes


class FlashServicer(Leased, flash_pb2_grpc.FlashServicer):
    """Methods as in flash.proto. The door has admitted the caller before any of them runs."""

    async def Write(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request_iterator: AsyncIterator[flash_pb2.FlashRequest], context: Context
    ) -> None:
        """Writes an image into an ECU."""
        bench = self.bench()
        upload = await _upload(request_iterator)
        ecu, bus = bench.ecu(upload.start.ecu)
        hub, tenancy = bus.require(), bench.held()
        try:
            # Parsing takes seconds for large files.
            made = await asyncio.to_thread(_plan, upload, ecu)
        except (image.ImageError, plan.PlanError) as error:
            raise invalid(str(error)) from error
        turn = tenancy.turn(ecu.name)
        try:
            async with asyncio.timeout(_TURN_S):
                await turn.acquire()
        except TimeoutError:
            raise in_use(f"{ecu.name} was busy with other requests for {_TURN_S:g} s") from None
        try:
            tester = await _tester(tenancy, hub, ecu)
            verdict = await _flash(tester, made, upload.start, tenancy, bench.simulated(ecu.name), context)
        finally:
            turn.release()
        await context.write(flash_pb2.FlashEvent(verdict=verdict))


async def _upload(requests: AsyncIterator[flash_pb2.FlashRequest]) -> _Upload:
    """The whole image. Raises CallError when it is not what was announced."""
    first = await _next(requests)
    if first is None or first.WhichOneof("request") != "start":
        raise invalid("the first request must be the start: which ECU, and how long the image is")
    start = first.start
    if not 0 < start.size <= LARGEST:
        raise invalid(f"size is {start.size}; an image file has 1 .. {LARGEST} bytes")
    content = bytearray()
    while len(content) < start.size:
        request = await _next(requests)
        if request is None:
            raise invalid(f"{start.file_name} ended after {len(content)} of {start.size} bytes")
        if request.WhichOneof("request") != "data" or len(content) + len(request.data) > start.size:
            raise invalid(f"{start.file_name} is longer than the {start.size} bytes that were announced")
        content += request.data
    if hashlib.sha256(content).digest() != start.sha256:
        raise invalid(f"the SHA-256 of what came is not that of {start.file_name}")
    return _Upload(start, bytes(content))


async def _next(requests: AsyncIterator[flash_pb2.FlashRequest]) -> flash_pb2.FlashRequest | None:
    try:
        async with asyncio.timeout(_UPLOAD_S):
            return await anext(requests, None)
    except TimeoutError:
        raise invalid(f"no more of the image came within {_UPLOAD_S:g} s") from None


def _plan(upload: _Upload, ecu: EcuDescription) -> plan.Plan:
    segments = image.read(upload.content, upload.start.file_name, _base(upload.start))
    return plan.make(segments, ecu.memory, ecu.name)


def _base(start: flash_pb2.FlashStart) -> int | None:
    return start.address if start.HasField("address") else None


async def _tester(tenancy: Tenancy, link: Link, ecu: EcuDescription) -> UdsTester:
    try:
        return await tenancy.tester(link, ecu)
    except ValueError as error:
        raise invalid(str(error)) from error


async def _flash(
    tester: UdsTester,
    made: plan.Plan,
    start: flash_pb2.FlashStart,
    tenancy: Tenancy,
    simulated: SimulatedNode | None,
    context: Context,
) -> flash_pb2.FlashVerdict:
    point = tenancy.resume_points.pop(tester.ecu.name, None)
    same = point is not None and (point.image, point.base) == (start.sha256, _base(start))
    resume_at = point.address if start.resume and point is not None and same else None
    began = time.monotonic()
    async with _reporting(context) as reporter:
        try:
            await Flasher(tester, reporter.put).run(made, resume_at=resume_at)
        except FlashError as error:
            if error.resume_at is not None:
                tenancy.resume_points[tester.ecu.name] = ResumePoint(start.sha256, _base(start), error.resume_at)
            verdict = _failed(error)
            if simulated is not None and error.is_silence:
                _explain(verdict, simulated.lost(reporter.asked))
        else:
            verdict = flash_pb2.FlashVerdict(ok=True, at=_wire(reporter.last))
    verdict.elapsed_ms = round((time.monotonic() - began) * 1000)
    return verdict


class _Reporter:
    """Writes the newest progress, at a pace; what comes in between is overtaken."""

    def __init__(self, context: Context) -> None:
        self.last: Progress | None = None
        self.asked = time.monotonic()
        """When the request in work was sent first (s, monotonic clock)."""
        self._context = context
        self._news = asyncio.Event()
        self._over = asyncio.Event()

    def put(self, progress: Progress) -> None:
        self.last, self.asked = progress, time.monotonic()
        self._news.set()

    def end(self) -> None:
        """`run` returns, once what it is writing is written: a call takes one message at a time."""
        self._over.set()
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            if self._over.is_set():
                return
            self._news.clear()
            await self._context.write(flash_pb2.FlashEvent(progress=_wire(self.last)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _PACE_S)


@contextlib.asynccontextmanager
async def _reporting(context: Context) -> AsyncIterator[_Reporter]:
    reporter = _Reporter(context)
    writing = asyncio.create_task(reporter.run())
    try:
        yield reporter
        reporter.end()
        await writing
    finally:
        writing.cancel()
        await asyncio.wait([writing])


def _wire(progress: Progress | None) -> flash_pb2.FlashProgress:
    if progress is None:
        return flash_pb2.FlashProgress()
    return flash_pb2.FlashProgress(
        phase=progress.phase.value,
        done=progress.done,
        total=progress.total,
        address=progress.address,
        block=progress.block,
        blocks=progress.blocks,
        rate=progress.rate,
    )


def _failed(error: FlashError) -> flash_pb2.FlashVerdict:
    verdict = flash_pb2.FlashVerdict(at=_wire(error.at), message=str(error), resumable=error.resume_at is not None)
    if error.nrc is not None:
        verdict.nrc, verdict.nrc_name, verdict.meaning = error.nrc, nrc_name(error.nrc), nrc_meaning(error.nrc)
    if error.fault is not None:
        verdict.transport = error.fault.value
    verdict.frame, verdict.silence = error.frame, error.is_silence
    return verdict


def _explain(verdict: flash_pb2.FlashVerdict, lost: TransportError | None) -> None:
    if lost is not None:
        verdict.lost, verdict.lost_frame = str(lost), lost.frame
