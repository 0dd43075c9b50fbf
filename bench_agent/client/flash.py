"""Flashing an ECU of a leased bench."""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, from_rpc
from bench_agent.protocol import flash_pb2, flash_pb2_grpc

_CHUNK = 256 * 1024
"""Bytes of the image in one message."""


@dataclass(frozen=True, slots=True)
class FlashProgress:
    """How far a flashing is."""

    phase: str
    """prepare, erase, request, transfer, exit, check, finish or done."""
    done: int
    """Bytes that the ECU has acknowledged, those of the attempt that this one resumes included."""
    total: int
    """Bytes in all."""
    address: int
    """Of the part or block in work."""
    block: int
    """Its number within the part, from 1; 0 outside of transfers."""
    blocks: int
    rate: float
    """Bytes/s since the transfer began."""

    @property
    def counter(self) -> int:
        """The block's blockSequenceCounter, as it is on the wire."""
        return self.block & 0xFF


@dataclass(frozen=True, slots=True)
class FlashResult:
    """What a flashing came to."""

    bytes: int
    elapsed_s: float


class FlashFailed(BenchError):
    """It stopped; the message says where and why. The ECU is as the last request left it."""

    def __init__(self, message: str, at: FlashProgress, verdict: flash_pb2.FlashVerdict) -> None:
        super().__init__(message)
        self.at = at
        self.nrc: int | None = verdict.nrc or None
        """The negative response code, if the ECU refused."""
        self.nrc_name: str = verdict.nrc_name
        self.meaning: str = verdict.meaning
        self.transport: str = verdict.transport
        """How the transport failed, as the kind of UdsTransport; empty if it did not."""
        self.frame: str = verdict.frame
        """The frame that caused it, or the last one sent before a silence; as candump writes it."""
        self.is_silence: bool = verdict.silence
        """Whether the answer was lost, or none was given, rather than one that refuses or makes no sense."""
        self.lost: str = verdict.lost
        """Of a simulated ECU: which part of the request it missed; empty if none, or if the ECU is real."""
        self.lost_frame: str = verdict.lost_frame
        """The frame that showed it the gap, or the last one before it."""
        self.resumable: bool = verdict.resumable
        """Whether an attempt with ``resume`` goes on at the block that failed."""


class FlashClient:
    """Flashes ECUs of one bench. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = flash_pb2_grpc.FlashStub(connection.channel)

    def write(
        self,
        ecu: str,
        image: "bytes | os.PathLike[str] | str",
        *,
        file_name: str = "",
        address: int | None = None,
        resume: bool = False,
        on_progress: Callable[[FlashProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> FlashResult:
        """As `events`, to the end: returns when the ECU has taken the image."""
        going_on = self.events(ecu, image, file_name=file_name, address=address, resume=resume, timeout_s=timeout_s)
        with closing(going_on):
            for event in going_on:
                if isinstance(event, FlashResult):
                    return event
                if on_progress is not None:
                    on_progress(event)
        raise AssertionError("unreachable: the last event is the result, or an error")

    def events(
        self,
        ecu: str,
        image: "bytes | os.PathLike[str] | str",
        *,
        file_name: str = "",
        address: int | None = None,
        resume: bool = False,
        timeout_s: float | None = None,
    ) -> Generator[FlashProgress | FlashResult]:
        """Writes an image file (its path, or its bytes and ``file_name``): progress, and at last the result.

        ``address`` is where a raw binary belongs. With ``resume``, an attempt of this lease that broke off goes on
        where it stopped, if the ECU allows it. ``timeout_s`` bounds it all; None: as long as the ECU takes, each step
        being bounded by its description. Closing the generator stops the flashing. Raises OSError, InvalidRequest when
        the image cannot be read or does not suit the ECU (nothing was sent then), FlashFailed, or another BenchError.
        """
        if isinstance(image, bytes):
            content = image
        else:
            path = Path(image)
            content, file_name = path.read_bytes(), file_name or path.name
        start = flash_pb2.FlashStart(
            ecu=ecu, file_name=file_name or "image", size=len(content), sha256=hashlib.sha256(content).digest(),
            address=address, resume=resume,
        )  # fmt: skip
        call = self._stub.Write(_requests(start, content), timeout=timeout_s, metadata=self._connection.metadata)
        try:
            for event in call:
                if event.WhichOneof("event") == "verdict":
                    yield _result(event.verdict)
                    return
                yield _progress(event.progress)
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.target) from None
        finally:
            # Whatever ended this: nobody is left to see the flashing through.
            call.cancel()
        raise BenchUnavailable(f"{self._connection.target} ended the flashing without a verdict")


def _requests(start: flash_pb2.FlashStart, content: bytes) -> Iterator[flash_pb2.FlashRequest]:
    yield flash_pb2.FlashRequest(start=start)
    for at in range(0, len(content), _CHUNK):
        yield flash_pb2.FlashRequest(data=content[at : at + _CHUNK])


def _progress(wire: flash_pb2.FlashProgress) -> FlashProgress:
    return FlashProgress(wire.phase, wire.done, wire.total, wire.address, wire.block, wire.blocks, wire.rate)


def _result(verdict: flash_pb2.FlashVerdict) -> FlashResult:
    if not verdict.ok:
        raise FlashFailed(verdict.message, _progress(verdict.at), verdict)
    return FlashResult(verdict.at.total, verdict.elapsed_ms / 1000)
