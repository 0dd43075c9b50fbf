"""A gateway between two buses of the bench, with faults on the way."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, from_rpc
from bench_agent.protocol import gateway_pb2, gateway_pb2_grpc


@dataclass(frozen=True, slots=True)
class BusFaultRule:
    """What happens to frames with (ID & mask) == (can_id & mask) on their way; in SocketCAN form, mask 0: to all."""

    can_id: int = 0
    mask: int = 0
    probability: float = 1.0
    seed: int = 0
    """The same seed strikes the same frames of the same row."""
    drop: bool = False
    delay_s: float = 0.0
    copies: int = 0
    """So many times more than once."""
    flip: bytes = b""
    """XORed with the data, from its first byte on."""
    new_id: int | None = None
    length: int | None = None
    """Data cut, or filled up with zeros, to so many bytes."""


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What has passed so far."""

    forwarded: int
    back: int
    refused: int
    """Frames that the other bus did not take; ``error`` tells why the last was not."""
    error: str
    overflowed: int
    """Frames lost because more waited than the gateway holds."""
    struck: tuple[int, ...]
    """Frames that each fault has struck."""


class GatewayClient:
    """Forwards within its context; the agent ends it with the lease at the latest."""

    def __init__(
        self, connection: Connection, from_bus: str, to_bus: str, faults: Sequence[BusFaultRule], *, one_way: bool
    ) -> None:
        self._connection = connection
        self._request = gateway_pb2.GatewayRequest(
            from_bus=from_bus, to_bus=to_bus, one_way=one_way, faults=[_wired(fault) for fault in faults]
        )
        self._requests: queue.SimpleQueue[gateway_pb2.GatewayRequest | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._asked = 0
        self._answers = 0
        self._counts = gateway_pb2.GatewayCounts()
        self._ended: BenchError | None = None
        self._closing = False
        self._cancel: Callable[[], object] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "GatewayClient":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> "GatewayClient":
        """Returns when frames are forwarded. Raises a BenchError when the agent refuses, or does not begin in time."""
        self._ask(self._request)
        call = gateway_pb2_grpc.GatewayStub(self._connection.channel).Forward(
            iter(self._requests.get, None), metadata=self._connection.metadata
        )
        self._cancel = call.cancel

        def read() -> None:
            failure: BenchError = BenchUnavailable("the gateway has ended")
            try:
                for counts in call:
                    with self._changed:
                        self._counts, self._answers = counts, self._answers + 1
                        self._changed.notify_all()
            except grpc.RpcError as error:
                failure = from_rpc(error, self._connection.target)
            self._requests.put(None)
            with self._changed:
                self._ended = failure
                self._changed.notify_all()

        self._reader = threading.Thread(target=read, name="gateway", daemon=True)
        self._reader.start()
        try:
            self._answer()
        except BenchError:
            self.close()
            raise
        return self

    def state(self) -> GatewayState:
        """As of now; once it is closed, at its end. Raises the BenchError that ended the gateway otherwise."""
        if not self._closing:
            self._ask(gateway_pb2.GatewayRequest())
            self._answer()
        with self._changed:
            counts = self._counts
        return GatewayState(
            forwarded=counts.forwarded,
            back=counts.back,
            refused=counts.refused,
            error=counts.error,
            overflowed=counts.overflowed,
            struck=tuple(counts.struck),
        )

    def close(self) -> None:
        """Ends the gateway; no frame is forwarded once this returns. May be called twice."""
        self._closing = True
        self._requests.put(None)
        with self._changed:
            self._changed.wait_for(lambda: self._ended, self._connection.timeout_s)
        if self._cancel is not None:
            self._cancel()
        if self._reader is not None:
            self._reader.join(self._connection.timeout_s)

    def _ask(self, request: gateway_pb2.GatewayRequest) -> None:
        with self._changed:
            self._asked += 1
        self._requests.put(request)

    def _answer(self) -> None:
        with self._changed:
            asked = self._asked
            self._changed.wait_for(lambda: self._answers >= asked or self._ended, self._connection.timeout_s)
            if self._answers < asked:
                raise self._ended or BenchUnavailable(f"{self._connection.target} does not answer in time")


def _wired(fault: BusFaultRule) -> gateway_pb2.BusFault:
    return gateway_pb2.BusFault(
        id=fault.can_id,
        mask=fault.mask,
        probability=fault.probability,
        seed=fault.seed,
        drop=fault.drop,
        delay_us=round(fault.delay_s * 1e6),
        copies=fault.copies,
        flip=fault.flip,
        new_id=fault.new_id,
        length=fault.length,
    )
