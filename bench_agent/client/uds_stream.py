"""One open stream for all diagnostic exchanges of a client: an exchange then costs a fraction of a unary call."""

import itertools
import queue
import threading
from concurrent.futures import Future

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, from_rpc
from bench_agent.protocol import bench_pb2


class UdsStream:
    """Matches replies to requests by their ids. Opens on first use, and again after it broke. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._live: _Live | None = None
        self._ids = itertools.count(1)
        self._closed = False

    def exchange(self, request: bench_pb2.UdsRequest) -> bench_pb2.UdsReply:
        """Sends ``request`` (its id is set here) and waits for the reply.

        Raises a BenchError when the agent refuses, or does not answer within the request's timeout plus that of the
        connection.
        """
        request.id = next(self._ids)
        live = self._stream()
        reply = live.send(request)
        try:
            return reply.result(request.timeout_ms / 1000 + self._connection.timeout_s)
        except TimeoutError:
            live.forget(request.id)
            raise BenchUnavailable(f"{self._connection.target} did not answer in time") from None

    def close(self) -> None:
        """Fails the exchanges that still wait."""
        with self._lock:
            self._closed = True
            live, self._live = self._live, None
        if live is not None:
            live.close()

    def _stream(self) -> "_Live":
        with self._lock:
            if self._closed:
                raise BenchUnavailable(f"the connection to {self._connection.target} is closed")
            if self._live is None or self._live.ended:
                self._live = _Live(self._connection)
            return self._live


class _Live:
    """One gRPC stream from its opening to its end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[bench_pb2.UdsReply]] = {}
        self._failure: BenchError | None = None
        # Bounded by its users: each waits for its reply before it asks again.
        self._requests: queue.SimpleQueue[bench_pb2.UdsRequest | None] = queue.SimpleQueue()
        self._call = connection.stub.Uds(iter(self._requests.get, None), metadata=connection.metadata)
        self._reader = threading.Thread(target=self._read, name="uds-stream", daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        return self._failure is not None

    def send(self, request: bench_pb2.UdsRequest) -> Future[bench_pb2.UdsReply]:
        reply: Future[bench_pb2.UdsReply] = Future()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._waiting[request.id] = reply
        self._requests.put(request)
        return reply

    def forget(self, request_id: int) -> None:
        with self._lock:
            self._waiting.pop(request_id, None)

    def close(self) -> None:
        self._call.cancel()
        self._reader.join(self._connection.timeout_s)

    def _read(self) -> None:
        failure: BenchError = BenchUnavailable(f"{self._connection.target} closed the diagnostic stream")
        try:
            for reply in self._call:
                with self._lock:
                    waiting = self._waiting.pop(reply.id, None)
                if waiting is not None:
                    waiting.set_result(reply)
        except grpc.RpcError as error:
            failure = from_rpc(error, self._connection.target)
        with self._lock:
            self._failure = failure
            orphans, self._waiting = list(self._waiting.values()), {}
        self._requests.put(None)  # lets gRPC's request thread end
        for orphan in orphans:
            orphan.set_exception(failure)
