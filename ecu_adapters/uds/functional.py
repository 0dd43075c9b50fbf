"""Functional requests: one request to all ECUs of a bus, and what each of them makes of it.

An ECU may stay silent: to a functional request it does not answer with NRC 0x11, 0x12, 0x31, 0x7E or 0x7F (ISO
14229-1, table 5). Each answer is waited for as to a physical request, with P2, and P2* after each 0x78.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from ecu_adapters.description import EcuDescription
from ecu_adapters.uds import services
from ecu_adapters.uds.secret import shown
from ecu_adapters.uds.services import NegativeResponse, Outcome, Plain, UdsInvalid
from ecu_adapters.uds.tester import Exchange, UdsError, UdsTester
from ecu_adapters.uds.unsolicited import Unsolicited

Answer = Outcome | UdsError | None
"""What an ECU made of the request: a result (for raw requests the response), what went wrong, or None for silence."""


async def request(testers: Sequence[UdsTester], pdu: bytes, *, timeout_s: float) -> dict[str, Answer]:
    """Sends ``pdu`` once and collects the answers, by the names of the ECUs.

    Waits for the turn of every ECU first. ``timeout_s`` bounds all of it. Raises UdsTimeout when an ECU stays busy with
    other requests, and UdsTransportError when nothing could be sent.
    """
    exchanges = await _exchange(testers, pdu, timeout_s)
    return {name: _raw(pdu, found) for name, found in exchanges.items()}


async def call(
    testers: Sequence[UdsTester], service: str, arguments: Mapping[str, Plain], *, timeout_s: float
) -> dict[str, Answer]:
    """The same with a service by name, whose answers are decoded with the description of the ECU that sent them.

    An ECU whose description cannot code the request (it has no such name) is listened to all the same: its result is
    the bytes of its response. Raises UdsInvalid when no ECU can, or when their requests differ.
    """
    if services.find(service).exchanges != 1:
        raise UdsInvalid(f"{service} is not one exchange; a functional request is")
    requests: dict[str, bytes] = {}
    faults: list[UdsInvalid] = []
    for tester in testers:
        try:
            requests[tester.ecu.name] = await _coded(tester.ecu, service, arguments)
        except UdsInvalid as error:
            faults.append(error)
    if not requests:
        raise faults[0] if faults else UdsInvalid("there is no ECU to ask")
    pdu = next(iter(requests.values()))
    for name, other in requests.items():
        if other != pdu:
            first = next(iter(requests))
            each = f"{shown(pdu)} for {first}, {shown(other)} for {name}"
            raise UdsInvalid(f"{service} with these arguments is another request for each ECU: {each}")
    answers: dict[str, Answer] = {}
    exchanges = await _exchange(testers, pdu, timeout_s)
    for tester in testers:
        name = tester.ecu.name
        found = exchanges[name]
        if name not in requests or isinstance(found, UdsError) or found.response is None:
            answers[name] = _raw(pdu, found)
            continue
        try:
            answers[name] = await services.call(_Past(tester.ecu, found), service, arguments, timeout_s=timeout_s)
        except UdsError as error:
            answers[name] = error
    return answers


async def _exchange(testers: Sequence[UdsTester], pdu: bytes, timeout_s: float) -> dict[str, Exchange | UdsError]:
    deadline = time.monotonic() + timeout_s
    async with AsyncExitStack() as turns:
        # In one order for everybody, so that two functional requests cannot wait for each other.
        for tester in sorted(testers, key=lambda tester: tester.ecu.name):
            await tester.take_turn(max(deadline - time.monotonic(), 0.0))
            turns.callback(tester.end_turn)
        await testers[0].send_functional(pdu, timeout_s=max(deadline - time.monotonic(), 0.0))
        sent = time.monotonic()
        waits = (tester.final_response(pdu, sent, deadline, timeout_s, functional=True) for tester in testers)
        found = await asyncio.gather(*waits, return_exceptions=True)
    exchanges: dict[str, Exchange | UdsError] = {}
    for tester, one in zip(testers, found, strict=True):
        if isinstance(one, BaseException) and not isinstance(one, UdsError):
            raise one
        exchanges[tester.ecu.name] = one
    return exchanges


def _raw(pdu: bytes, found: Exchange | UdsError) -> Answer:
    if isinstance(found, UdsError):
        return found
    if found.nrc is not None:
        return NegativeResponse(pdu[0], found.nrc, found)
    return None if found.response is None else Outcome(found.response, found)


async def _coded(ecu: EcuDescription, service: str, arguments: Mapping[str, Plain]) -> bytes:
    """The request that the service would send to this ECU."""
    try:
        await services.call(_Future(ecu), service, arguments, timeout_s=1.0)
    except _Coded as coded:
        return coded.pdu
    raise UdsInvalid(f"{service} sends no request")


class _Coded(Exception):
    def __init__(self, pdu: bytes) -> None:
        super().__init__()
        self.pdu = pdu


@dataclass(frozen=True, slots=True)
class _Future:
    """In a tester's place: lets a service code its request, and no more."""

    ecu: EcuDescription

    @property
    def unsolicited(self) -> Unsolicited:
        return Unsolicited()

    async def request(self, pdu: bytes, *, timeout_s: float) -> Exchange:
        raise _Coded(pdu)


@dataclass(frozen=True, slots=True)
class _Past:
    """In a tester's place: lets a service decode an exchange that has been."""

    ecu: EcuDescription
    exchange: Exchange

    @property
    def unsolicited(self) -> Unsolicited:
        return Unsolicited()

    async def request(self, pdu: bytes, *, timeout_s: float) -> Exchange:
        return self.exchange
