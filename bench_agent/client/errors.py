"""What a call on a bench can raise, and how gRPC status codes map to it."""

import re
from collections.abc import Iterable
from typing import Any, cast

import grpc

from bench_agent.protocol.claims import PREPARING_METADATA
from bench_agent.protocol.transport import ANSWER_S


class BenchError(Exception):
    """Base of everything that a bench client raises."""


class LeaseRefused(BenchError):
    """The agent does not accept the lease token: malformed, expired, for another bench, superseded or revoked."""


class NotFound(BenchError):
    """The bench has no such bus or ECU; the message lists those that it has."""


class InvalidRequest(BenchError):
    """The request cannot be carried out as it stands: unknown message or signal, value out of range, bad frame."""


class BenchUnavailable(BenchError):
    """The agent cannot be reached or did not answer in time, or the bus is down; the message says which."""


class BusFault(BenchError):
    """The bus driver refused a frame."""


class InUse(BenchError):
    """Somebody else has what was asked for; the message names who."""


class DeviceFault(BenchError):
    """A device of the bench (supply, adapter) failed, or answered what makes no sense."""


class NegativeResponse(BenchError):
    """The ECU refused the request (ISO 14229-1, negative response 0x7F)."""

    def __init__(self, service: int, nrc: int, service_name: str, nrc_name: str, meaning: str) -> None:
        self.service = service
        """The refused service identifier, for example 0x22."""
        self.nrc = nrc
        """The negative response code, for example 0x33."""
        self.service_name = service_name
        self.nrc_name = nrc_name
        self.meaning = meaning
        """What the code tells the tester, for people."""
        super().__init__(f"{service_name} (0x{service:02X}) refused: {nrc_name} (NRC 0x{nrc:02X})")


class UdsTimeout(BenchError):
    """No (final) response came in time."""


class UdsTransport(BenchError):
    """ISO-TP (ISO 15765-2), DoIP (ISO 13400-2) or the bus failed."""

    def __init__(self, message: str, kind: str = "", frame: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        """How: fc_timeout, cf_timeout, wrong_sequence_number, overflow, too_many_wait, invalid_frame, send_timeout,
        bus, connection, refused or closed; empty when nothing was tried."""
        self.frame = frame
        """The frame that caused it, as candump writes it: ``7E8#2201020304050607``. Empty if there was none."""


class UdsUnexpected(BenchError):
    """The ECU's response is not one to the request."""


class J1939Failure(BenchError):
    """A J1939 message could not be sent or was lost, or a request was not answered."""

    def __init__(self, message: str, kind: str, frame: str = "", code: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        """aborted, timeout, sequence, unexpected, no_room, send_timeout, no_answer, refused, address, bus or closed."""
        self.frame = frame
        """The frame that caused it, as candump writes it; empty if there was none."""
        self.code = code
        """aborted: the reason (J1939-21); refused: the control byte of the acknowledgement."""


class UdsInvalid(InvalidRequest):
    """The diagnostic request cannot be built: unknown DID, service or argument."""


_BY_STATUS: dict[grpc.StatusCode, type[BenchError]] = {
    grpc.StatusCode.UNAUTHENTICATED: LeaseRefused,
    grpc.StatusCode.PERMISSION_DENIED: LeaseRefused,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAVAILABLE: BenchUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: BenchUnavailable,
    grpc.StatusCode.CANCELLED: BenchUnavailable,
    grpc.StatusCode.ABORTED: BusFault,
    grpc.StatusCode.FAILED_PRECONDITION: InUse,
    grpc.StatusCode.DATA_LOSS: DeviceFault,
}

_CUT = re.compile(r"^Stream removed.*timed out|keepalive|ping timeout", re.IGNORECASE)
"""What gRPC says when the other side of a connection has fallen silent."""


def from_rpc(error: grpc.RpcError, target: str) -> BenchError:
    """The BenchError for a failed call; ``target`` says which bench at which address."""
    code = error.code()
    details = error.details() or code.name
    kind = _BY_STATUS.get(code, BenchError)
    if code is grpc.StatusCode.UNAVAILABLE and _CUT.search(details):
        return kind(f"{target}: the connection was cut: the agent's side has not answered for {ANSWER_S} s ({details})")
    match code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return kind(f"{target}: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return kind(f"{target} did not answer in time")
    return kind(details)


def is_preparing(error: grpc.RpcError) -> bool:
    """Whether the call was not carried out because the agent still prepares the bench for its new holder."""
    metadata: Iterable[tuple[str, str | bytes]] = cast(Any, error.trailing_metadata()) or ()
    return any(key == PREPARING_METADATA for key, _ in metadata)
