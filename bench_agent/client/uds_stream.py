"""One open stream for all diagnostic exchanges of a client: an exchange then costs a fraction of a unary call.

Replies are read by whoever waits for one: a caller alone reads its own, with no hand-over between threads. Of several,
one reads for all, until its own reply has come; then another goes on.
"""

import itertools
import queue
import threading
import time
from collections.abc import Iterator

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, from_rpc
from bench_agent.protocol import bench_pb2

_LOOK_S = 1.0
"""How often it is looked whether an agent that is alive has forgotten a request."""


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
        return self._stream().exchange(request)

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


class _Exchange:
    """One that waits for its reply."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.reply: bench_pb2.UdsReply | None = None
        self.reads = False
        """Whether it is its caller who reads."""
        self.turn = threading.Lock()
        """Held while there is nothing to do for its caller; released for a reply, a failure, or its turn to read."""
        self.turn.acquire()


class _Live:
    """One gRPC stream from its opening to its end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: dict[int, _Exchange] = {}
        self._failure: BenchError | None = None
        self._reading = False
        self._over = threading.Event()
        # Bounded by its users: each waits for its reply before it asks again.
        self._requests: queue.SimpleQueue[bench_pb2.UdsRequest | None] = queue.SimpleQueue()
        self._call = connection.stub.Uds(self._outgoing(), metadata=connection.metadata)
        self._watch = threading.Thread(target=self._look, name="uds-watch", daemon=True)
        self._watch.start()

    @property
    def ended(self) -> bool:
        return self._failure is not None

    def exchange(self, request: bench_pb2.UdsRequest) -> bench_pb2.UdsReply:
        exchange = _Exchange(time.monotonic() + request.timeout_ms / 1000 + self._connection.timeout_s)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._waiting[request.id] = exchange
            exchange.reads, self._reading = not self._reading, True
            reads_at_once = exchange.reads
        try:
            self._requests.put(request)
            if not reads_at_once:
                exchange.turn.acquire()
            # A reply, a failure, or the turn to read.
            if exchange.reply is None and self._failure is None:
                self._read(exchange)
        finally:
            # Whatever ended this, Ctrl-C too: somebody else must read on.
            with self._lock:
                self._waiting.pop(request.id, None)
                if exchange.reads:
                    self._pass_on()
        if exchange.reply is not None:
            return exchange.reply
        assert self._failure is not None, "without a reply there is a failure"  # noqa: S101 - what ends the wait
        raise self._failure

    def close(self) -> None:
        self._call.cancel()
        self._end(BenchUnavailable(f"the connection to {self._connection.target} is closed"))
        self._watch.join(self._connection.timeout_s)

    def _outgoing(self) -> Iterator[bench_pb2.UdsRequest]:
        """Requests, those that came while another was being sent together in one message. On a thread of gRPC's."""
        while (request := self._requests.get()) is not None:
            more: list[bench_pb2.UdsRequest | None] = []
            while not self._requests.empty():
                more.append(self._requests.get())
            request.more.extend(other for other in more if other is not None)
            yield request
            if None in more:
                return

    def _read(self, mine: _Exchange) -> None:
        """Reads until the reply to ``mine`` is there, handing others theirs."""
        try:
            while mine.reply is None:
                message = next(self._call)
                for reply in (message, *message.more):
                    with self._lock:
                        waiting = self._waiting.pop(reply.id, None)
                    if waiting is not None:
                        waiting.reply = reply
                        if waiting is not mine:
                            waiting.turn.release()
        except StopIteration:
            self._end(BenchUnavailable(f"{self._connection.target} closed the diagnostic stream"))
        except grpc.RpcError as error:
            self._end(from_rpc(error, self._connection.target))

    def _pass_on(self) -> None:
        """The turn to read goes to anybody who still waits; the lock is held."""
        following = next(iter(self._waiting.values()), None)
        self._reading = following is not None
        if following is not None:
            following.reads = True
            following.turn.release()

    def _end(self, failure: BenchError) -> None:
        """The stream is over; whoever waits learns why. The first reason counts."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = failure
            orphans, self._waiting = list(self._waiting.values()), {}
        self._over.set()
        self._requests.put(None)  # lets gRPC's request thread end
        for orphan in orphans:
            if orphan.reply is None and orphan.turn.locked():
                orphan.turn.release()

    def _look(self) -> None:
        """Ends a stream whose agent owes a reply: a reader cannot be woken otherwise."""
        while not self._over.wait(_LOOK_S):
            now = time.monotonic()
            with self._lock:
                late = any(exchange.deadline < now for exchange in self._waiting.values())
            if late:
                self._end(BenchUnavailable(f"{self._connection.target} did not answer in time"))
                self._call.cancel()
