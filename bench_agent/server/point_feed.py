"""Sends the spool's batches to labd, one at a time: the next when labd has the one before."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench_agent.protocol import lab_pb2
from bench_agent.server.measuring import Way
from bench_agent.server.point_spool import PointSpool

ANSWER_S = 30.0
"""How long labd may take before a batch is sent again."""


class PointFeed:
    """Used on one asyncio loop, through all streams to labd."""

    def __init__(self, spool: PointSpool, way: Way) -> None:
        self._spool = spool
        self._way = way
        self._more = asyncio.Event()
        self._answer: asyncio.Future[lab_pb2.MetricsTaken] | None = None
        self._answered_at = 0.0
        self._lab_time_ms = 0

    def more(self) -> None:
        """There is something in the spool."""
        self._more.set()

    def taken(self, answer: lab_pb2.MetricsTaken, lab_time_ms: int) -> None:
        """labd has a batch, and says what time it is."""
        if self._answer is not None and not self._answer.done():
            self._answered_at, self._lab_time_ms = time.monotonic(), lab_time_ms
            self._answer.set_result(answer)

    async def run(self, put: Callable[[lab_pb2.AgentMessage], Awaitable[None]]) -> None:
        """Sends until cancelled, at the end of a stream; what labd has not acknowledged by then goes over the next."""
        while True:
            self._more.clear()
            batch = await asyncio.to_thread(self._spool.head)
            if batch is None:
                await self._more.wait()
                continue
            await self._send(batch, put)

    async def _send(self, batch: lab_pb2.Metrics, put: Callable[[lab_pb2.AgentMessage], Awaitable[None]]) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            sent_at, sent_wall = time.monotonic(), time.time()
            await put(lab_pb2.AgentMessage(metrics=batch))
            async with asyncio.timeout(ANSWER_S):
                answer = await self._answer
        except TimeoutError:
            return
        finally:
            self._answer = None
        if (answer.spool, answer.number) != (batch.spool, batch.number):
            return
        took_s = self._answered_at - sent_at
        held_s = min(max(answer.held_s, 0.0), took_s)
        self._way.round_trip_s = took_s - held_s
        self._way.offset_s = self._lab_time_ms / 1000 - (sent_wall + (took_s + held_s) / 2)
        await asyncio.to_thread(self._spool.taken, batch.spool, batch.number)
