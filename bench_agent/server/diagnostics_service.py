"""Diagnostics with several ECUs at once."""

import time
from contextlib import AsyncExitStack

from bench_agent.protocol import diagnostics_pb2, diagnostics_pb2_grpc
from bench_agent.protocol.values import from_values
from bench_agent.server import uds_replies
from bench_agent.server.bench import Bench
from bench_agent.server.door import Context
from bench_agent.server.ecu_link import EcuLink
from bench_agent.server.errors import invalid
from bench_agent.server.leased import Leased
from bench_agent.server.uds_service import LONGEST_S, tester_of, turn
from ecu_adapters.bus import EXTENDED_FLAG
from ecu_adapters.description import EcuDescription
from ecu_adapters.uds import functional
from ecu_adapters.uds.functional import Answer
from ecu_adapters.uds.services import Outcome
from ecu_adapters.uds.tester import UdsError


class DiagnosticsServicer(Leased, diagnostics_pb2_grpc.DiagnosticsServicer):
    """Methods as in diagnostics.proto."""

    async def Functional(
        self, request: diagnostics_pb2.FunctionalRequest, context: Context
    ) -> diagnostics_pb2.FunctionalReply:
        """One request to all ECUs of a bus. Raises CallError when it names none, or cannot be."""
        bench = self.bench()
        if not request.timeout_ms or request.timeout_ms > LONGEST_S * 1000:
            raise invalid(f"timeout_ms is {request.timeout_ms}; it must be 1 .. {LONGEST_S * 1000:.0f}")
        if request.WhichOneof("what") is None or (request.WhichOneof("what") == "pdu" and not request.pdu):
            raise invalid("neither a service nor a request PDU of at least one byte is given")
        link, ecus = _listeners(bench, request)
        reply = diagnostics_pb2.FunctionalReply()
        try:
            for name, answer in (await _ask(bench, link, ecus, request)).items():
                _fill(reply, name, answer)
        except UdsError as error:
            reply.error.CopyFrom(uds_replies.to_error(error))
        return reply


def _listeners(bench: Bench, request: diagnostics_pb2.FunctionalRequest) -> tuple[EcuLink, list[EcuDescription]]:
    """The bus or gateway, and its ECUs that listen to one functional address."""
    links = {link.name: link for _, link in bench.ecus}
    if request.bus and request.bus not in links:
        bench.bus(request.bus)
    found: dict[tuple[str, int, bytes], list[EcuDescription]] = {}
    for ecu, link in bench.ecus:
        if ecu.functional_address is not None and request.bus in ("", link.name):
            # What must be the same besides, so that one request reaches them all.
            prefix = ecu.addressing.functional_prefix
            origin = prefix if ecu.doip is None else ecu.doip.tester_address.to_bytes(2, "big")
            found.setdefault((link.name, ecu.functional_address, origin), []).append(ecu)
    if request.HasField("functional_id"):
        found = {
            place: ecus
            for place, ecus in found.items()
            if request.functional_id in (place[1], place[1] & ~EXTENDED_FLAG)
        }
    if len(found) != 1:
        where = f"bus {request.bus}" if request.bus else f"bench {bench.name}"
        if not found:
            fields = "addressing.functional_id, doip.functional_address"
            raise invalid(f"{where} has no ECU with such a functional address ({fields})")
        known = ", ".join(f"0x{address & ~EXTENDED_FLAG:X} on bus {name}" for name, address, _ in sorted(found))
        raise invalid(f"{where} has several functional addresses: {known}; say which (bus, functional_id)")
    ((name, _, _), ecus) = next(iter(found.items()))
    return links[name], ecus


async def _ask(
    bench: Bench, way: EcuLink, ecus: list[EcuDescription], request: diagnostics_pb2.FunctionalRequest
) -> dict[str, Answer]:
    link, tenancy = way.require(), bench.held()
    deadline = time.monotonic() + request.timeout_ms / 1000
    async with AsyncExitStack() as turns:
        # In one order for everybody, so that two functional requests cannot wait for each other.
        for ecu in sorted(ecus, key=lambda ecu: ecu.name):
            await turns.enter_async_context(turn(tenancy, ecu.name, max(deadline - time.monotonic(), 0.001)))
        testers = [await tester_of(tenancy, link, ecu) for ecu in ecus]
        left = max(deadline - time.monotonic(), 0.001)
        if request.WhichOneof("what") == "pdu":
            return await functional.request(testers, request.pdu, timeout_s=left)
        arguments = from_values(request.call.arguments)
        return await functional.call(testers, request.call.service, arguments, timeout_s=left)


def _fill(reply: diagnostics_pb2.FunctionalReply, ecu: str, answer: Answer) -> None:
    entry = reply.answers[ecu]
    if isinstance(answer, Outcome):
        uds_replies.fill_outcome(entry, answer)
    elif answer is not None:
        uds_replies.fill_error(entry, answer)
