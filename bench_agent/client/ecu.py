"""A diagnostic ECU of a leased bench."""

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from bench_agent.client.connection import to_ms
from bench_agent.client.errors import (
    BenchError,
    NegativeResponse,
    UdsInvalid,
    UdsTimeout,
    UdsTransport,
    UdsUnexpected,
)
from bench_agent.client.flash import FlashClient, FlashProgress, FlashResult
from bench_agent.client.uds_stream import UdsStream
from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import Plain, from_value, to_values

_BY_KIND: dict[int, type[BenchError]] = {
    bench_pb2.UdsError.INVALID: UdsInvalid,
    bench_pb2.UdsError.TIMEOUT: UdsTimeout,
    bench_pb2.UdsError.UNEXPECTED: UdsUnexpected,
}


@dataclass(frozen=True, slots=True)
class UdsExchange:
    """One request and its final response, as they were on the bus. For a named service: the last one it took."""

    request: bytes
    """Without the bytes of a key or a proof: they end where the secret begins."""
    response: bytes
    """Empty if none came or none was due (suppress-positive-response)."""
    pending_us: tuple[int, ...]
    """When the first 32 of the 0x78 (response pending) came, in µs after the request."""
    elapsed_us: int
    """From request to final response, in µs."""
    service_name: str
    """Of the request, after ISO 14229-1; empty if none was sent."""
    negative: NegativeResponse | None
    """What the response says, if it is a negative one."""
    hidden: int = 0
    """How many bytes of the request are left out."""
    pending_count: int = 0
    """How many 0x78 there were."""
    pending_last_us: int = 0
    """When the last one came, in µs after the request."""
    pending_longest_gap_us: int = 0
    """The longest time from one of them to the next response, in µs; what P2* bounds."""


class EcuClient:
    """One ECU. Cheap to make; thread-safe, and requests to one ECU are carried out in order."""

    def __init__(self, stream: UdsStream, name: str, flashing: FlashClient) -> None:
        self._stream = stream
        self._flashing = flashing
        self.name = name
        self.last: UdsExchange | None = None
        """The exchange behind the last call on this object, refused ones included."""

    def raw(self, pdu: bytes, timeout_s: float = 10.0) -> UdsExchange:
        """Sends a whole request PDU, from the service identifier on.

        ``timeout_s`` bounds the whole exchange, all waiting for 0x78 included. A negative response is no error here:
        it is the exchange's response, and explained in its ``negative``. Raises a BenchError.
        """
        request = bench_pb2.UdsRequest(ecu=self.name, timeout_ms=to_ms(timeout_s), pdu=pdu)
        exchange, reply = self._exchange(request)
        if reply.WhichOneof("outcome") == "error":
            raise error_of(reply.error)
        return exchange

    def call(self, service: str, /, timeout_s: float = 10.0, **arguments: object) -> Plain:
        """Calls a service by name ("session", "read", "unlock", ...), coded with the ECU's description.

        Returns its result as plain data. Raises NegativeResponse when the ECU refuses, or another BenchError.
        """
        try:
            coded = bench_pb2.UdsCall(service=service, arguments=to_values(arguments))
        except (TypeError, ValueError) as error:
            raise UdsInvalid(f"arguments of {service}: {error}") from None
        _, reply = self._exchange(bench_pb2.UdsRequest(ecu=self.name, timeout_ms=to_ms(timeout_s), call=coded))
        match reply.WhichOneof("outcome"):
            case "negative":
                raise negative_of(reply.negative)
            case "error":
                raise error_of(reply.error)
        return from_value(reply.result)

    def flash(
        self,
        image: "bytes | os.PathLike[str] | str",
        *,
        file_name: str = "",
        address: int | None = None,
        resume: bool = False,
        on_progress: Callable[[FlashProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> FlashResult:
        """Writes an image file into the ECU, as its description's section ``flash`` says. See `FlashClient.write`."""
        return self._flashing.write(
            self.name, image, file_name=file_name, address=address, resume=resume, on_progress=on_progress,
            timeout_s=timeout_s,
        )  # fmt: skip

    def flashing(
        self,
        image: "bytes | os.PathLike[str] | str",
        *,
        file_name: str = "",
        address: int | None = None,
        resume: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[FlashProgress | FlashResult]:
        """The same step by step: progress, and at last the result. See `FlashClient.events`."""
        return self._flashing.events(
            self.name, image, file_name=file_name, address=address, resume=resume, timeout_s=timeout_s
        )

    def session(self, session: str | int, *, timeout_s: float = 10.0) -> Plain:
        """Enters a diagnostic session, by name or number, which the agent then keeps alive.

        Returns ``{"session": name, "p2_ms": ..., "p2_star_ms": ...}``.
        """
        return self.call("session", timeout_s, session=session)

    def read(self, did: str | int | list[str | int], *, timeout_s: float = 10.0) -> Plain:
        """The value of a data identifier, by name or number; for a list of them a mapping by name.

        A value is a number, text, bytes, or for a structure a mapping by field name. ``call("read", did=...,
        details=True)`` brings name, unit and raw bytes too.
        """
        return self.call("read", timeout_s, did=did)

    def write(self, did: str | int, value: object, *, timeout_s: float = 10.0) -> None:
        """Writes a data identifier; ``value`` is as `read` returns it."""
        self.call("write", timeout_s, did=did, value=value)

    def unlock(self, level: int, key_of: Callable[[bytes], bytes] | None = None, *, timeout_s: float = 10.0) -> bool:
        """Unlocks a security level: by the ECU's description, or with ``key_of``, from the seed to the key.

        Returns False when the level was unlocked already (with ``key_of`` only). The agent knows keys; logs do not.
        """
        if key_of is None:
            self.call("unlock", timeout_s, level=level)
            return True
        seed = self.call("seed", timeout_s, level=level)
        if not isinstance(seed, bytes) or not any(seed):
            return False  # an all-zero seed: nothing to unlock (ISO 14229-1, SecurityAccess)
        self.call("key", timeout_s, level=level, key=key_of(seed))
        return True

    def dtcs(self, mask: int = 0xFF, *, timeout_s: float = 10.0) -> list[dict[str, Plain]]:
        """The trouble codes whose status meets ``mask``.

        Each is ``{"code": "P0301", "dtc": 0x030100, "text": ..., "status": 0x2F, "confirmed": True, ...}``.
        """
        return _tables(self.call("read_dtcs", timeout_s, mask=mask))

    def clear_dtcs(self, group: str | int = 0xFFFFFF, *, timeout_s: float = 10.0) -> None:
        """Clears a trouble code, a group of them, or all."""
        self.call("clear_dtcs", timeout_s, group=group)

    def reset(self, kind: str | int = "hard", *, timeout_s: float = 10.0) -> None:
        """ECUReset: "hard", "key_off_on", "soft" or a number."""
        self.call("reset", timeout_s, kind=kind)

    def routine(self, name: str | int) -> "RoutineClient":
        """A routine, by name or number: ``ecu.routine("EraseMemory").start(address=0x8000, size=256)``."""
        return RoutineClient(self, name)

    def events(self, count: int = 1, wait_s: float = 1.0) -> list[dict[str, Plain]]:
        """What the ECU sent unasked since the last call (ResponseOnEvent, late answers), oldest first.

        Waits up to ``wait_s`` until there are ``count``. Each is ``{"service": 0x22, "service_name": ..., "raw": ...,
        "at": seconds since the Unix epoch}``, of a described data identifier also with "name" and "value".
        """
        return self._unasked("events", count, wait_s)

    def collect_periodic(self, count: int = 1, wait_s: float = 1.0) -> list[dict[str, Plain]]:
        """The periodic values that came since the last call, as ``{"name", "did", "value", "unit", "raw", "at"}``."""
        return self._unasked("collect_periodic", count, wait_s)

    def dropped(self) -> dict[str, Plain]:
        """How many ``events`` and ``periodic`` values were dropped since the lease began: nobody took them in time.

        The agent keeps 1,000 of each.
        """
        found = self.call("dropped")
        return found if isinstance(found, dict) else {}

    def start_periodic(self, *dids: str | int, rate: str = "medium", timeout_s: float = 10.0) -> None:
        """Has the ECU send data identifiers F2xx by itself: "slow", "medium" or "fast". `collect_periodic` takes them.

        Needs a session other than the default one, and ends with it.
        """
        self.call("read_periodic", timeout_s, dids=list(dids), rate=rate)

    def stop_periodic(self, *dids: str | int, timeout_s: float = 10.0) -> None:
        """Stops these data identifiers, or all."""
        self.call("stop_periodic", timeout_s, dids=list(dids) or None)

    def _unasked(self, service: str, count: int, wait_s: float) -> list[dict[str, Plain]]:
        # At least 1 ms, for the exchange with the agent; what is there already comes at once.
        return _tables(self.call(service, max(wait_s, 0.001), count=count, wait_ms=round(wait_s * 1000)))

    def _exchange(self, request: bench_pb2.UdsRequest) -> tuple[UdsExchange, bench_pb2.UdsReply]:
        reply = self._stream.exchange(request)
        self.last = exchange_of(reply)
        return self.last, reply


class RoutineClient:
    """A routine of an ECU. Each method returns ``{"routine", "action", "raw", "status"}``.

    ``status`` is a mapping by field name; it is left out when the ECU's description does not say what the answer holds.
    """

    def __init__(self, ecu: EcuClient, name: str | int) -> None:
        self._ecu = ecu
        self.name = name

    def start(self, *, timeout_s: float = 10.0, **options: object) -> Plain:
        """Starts it with the options that the ECU's description names."""
        return self._control("start", timeout_s, options)

    def stop(self, *, timeout_s: float = 10.0, **options: object) -> Plain:
        """Stops it."""
        return self._control("stop", timeout_s, options)

    def results(self, *, timeout_s: float = 10.0, **options: object) -> Plain:
        """What it has found."""
        return self._control("results", timeout_s, options)

    def _control(self, action: str, timeout_s: float, options: Mapping[str, object]) -> Plain:
        return self._ecu.call("routine", timeout_s, routine=self.name, action=action, options=options or None)


def exchange_of(reply: bench_pb2.UdsReply) -> UdsExchange:
    """What a reply says about the bus."""
    return UdsExchange(
        request=reply.request,
        response=reply.response,
        pending_us=tuple(reply.pending_us),
        elapsed_us=reply.elapsed_us,
        service_name=reply.service_name,
        negative=negative_of(reply.negative) if reply.WhichOneof("outcome") == "negative" else None,
        hidden=reply.hidden,
        pending_count=reply.pending_count,
        pending_last_us=reply.pending_last_us,
        pending_longest_gap_us=reply.pending_longest_gap_us,
    )


def negative_of(coded: bench_pb2.NegativeResponse) -> NegativeResponse:
    """A refusal from its wire form."""
    return NegativeResponse(coded.service, coded.nrc, coded.service_name, coded.nrc_name, coded.meaning)


def error_of(error: bench_pb2.UdsError) -> BenchError:
    """What went wrong, from its wire form."""
    if error.kind == bench_pb2.UdsError.TRANSPORT:
        return UdsTransport(error.message, error.transport, error.frame)
    return _BY_KIND.get(error.kind, BenchError)(error.message)


def _tables(found: Plain) -> list[dict[str, Plain]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
