"""The module uds: diagnostics with the bench's ECUs."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scenarios.bindings.context import Context, wait
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import FunctionalAnswer, UdsExchange

UDS_TIMEOUT_S = 10.0
FUNCTIONAL_TIMEOUT_S = 1.0
_PDU = re.compile(r"[0-9][0-9A-Fa-f]( ?[0-9A-Fa-f])*")
"""A request in hexadecimal; no service has a name that looks like one."""
_SECRET = {"key", "proof"}
"""Arguments that no step shows."""
_SECRET_SERVICES = ("27", "29")
_AUTHENTICATION_RESPONSE = 0x69
_UNASKED = {"events", "collect_periodic"}
"""Services that wait for what the ECU sends by itself."""


class UdsBindings:
    """Functions of the module uds."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.uds_ecu, self.uds_call, self.uds_raw, self.uds_functional)

    def uds_ecu(self, name: object = None, timeout: object = None) -> int:
        """Opens an ECU; without a name, the only one. Returns its number."""
        timeout_s = UDS_TIMEOUT_S if timeout is None else wait(timeout)
        with self._context.bench_faults():
            bench = self._context.opened()
            if name is None:
                name = self._context.only("ECU", "uds.ecu", bench.describe().ecus)
            client = bench.ecu(str(name))
        self._context.ecus.append((client, timeout_s))
        return len(self._context.ecus) - 1

    def uds_call(self, number: int, service: str, arguments: str) -> object:
        """Calls a service by name; ``timeout`` among its arguments is for this call."""
        client, timeout_s = self._context.ecus[number]
        given = dict(from_json(arguments) or {})
        if given.get("timeout") is not None:
            timeout_s = wait(given.pop("timeout"))
            if service in _UNASKED:
                given["wait_ms"] = round(self._context.bounded(timeout_s) * 1000)
        text = f"{client.name} {service}{_shown_arguments(given)}"
        client.last = None
        try:
            with self._context.bench_faults():
                return client.call(service, self._context.bounded(timeout_s), **given)
        finally:
            self._step(text, client.last)

    def uds_raw(self, number: int, request: object) -> str:
        """Sends a request PDU as it is; the response PDU as it is."""
        client, timeout_s = self._context.ecus[number]
        pdu = _pdu(str(request))
        client.last = None
        try:
            with self._context.bench_faults():
                return to_hex(client.raw(pdu, self._context.bounded(timeout_s)).response)
        finally:
            self._step(f"{client.name} raw", client.last)

    def uds_functional(self, request: object, arguments: str) -> object:
        """Asks all ECUs of a bus at once, by a PDU or a service's name; a table by ECU."""
        given = dict(from_json(arguments) or {})
        bus, timeout = given.pop("bus", None), given.pop("timeout", None)
        if not isinstance(address := given.get("functional_id", 0), int):
            raise ScenarioFault("invalid", f"functional_id is {address!r}; it must be an integer, such as 0x7DF")
        timeout_s = self._context.bounded(FUNCTIONAL_TIMEOUT_S if timeout is None else wait(timeout))
        asked = _pdu(str(request)) if _PDU.fullmatch(str(request)) else str(request)
        text = f"functional {_shown_pdu(asked) if isinstance(asked, bytes) else asked}{_shown_arguments(given)}"
        answers: dict[str, FunctionalAnswer] = {}
        try:
            with self._context.bench_faults():
                bench = self._context.opened()
                answers = bench.functional(asked, None if bus is None else str(bus), timeout_s, **given)
        finally:
            self._context.record.step(f"{text}: {len(answers)} ECUs listened")
            for name, answer in answers.items():
                self._step(f"{name} functional", answer.exchange)
        return {name: _answer(answer) for name, answer in answers.items()}

    def _step(self, text: str, last: "UdsExchange | None") -> None:
        if last is None or not last.request:  # refused before anything was sent, or no answer
            self._context.record.step(f"{text}: no exchange")
            return
        hidden = f" + {last.hidden} bytes not shown" if last.hidden else ""
        pending = f", {last.pending_count} x response pending" if last.pending_count else ""
        response = _shown_response(last.response) or "no response"
        self._context.record.step(
            f"{text}: {to_hex(last.request)}{hidden} -> {response} ({last.elapsed_us / 1000:.1f} ms{pending})"
        )


def _pdu(request: str) -> bytes:
    compact = request.replace(" ", "")
    if compact.startswith(_SECRET_SERVICES):
        try:
            return bytes.fromhex(compact)
        except ValueError:
            # It may hold a key.
            raise ValueError("the request is not in whole bytes of hexadecimal digits") from None
    pdu = from_hex(request, "the request")
    if not pdu:
        raise ScenarioFault("invalid", "the request is empty; it starts with the service identifier")
    return pdu


def _answer(answer: "FunctionalAnswer") -> dict[str, object]:
    """What an ECU made of a functional request, for the script."""
    shown: dict[str, object] = {"silent": answer.exchange is None and answer.error is None}
    if answer.exchange is not None:
        shown["response"] = answer.exchange.response
    if answer.negative is not None:
        refused = answer.negative
        shown |= {"nrc": refused.nrc, "nrc_name": refused.nrc_name, "meaning": refused.meaning}
        shown |= {"service": refused.service, "service_name": refused.service_name}
    if answer.error is not None:
        return shown | {"error": str(answer.error)}
    return shown | {"result": answer.result}


def _shown_pdu(pdu: bytes) -> str:
    return to_hex(pdu) if not to_hex(pdu).startswith(_SECRET_SERVICES) else f"{to_hex(pdu[:2])} ..."


def _shown_response(response: bytes) -> str:
    # What follows a proof of ownership may hold a session key.
    if response and response[0] == _AUTHENTICATION_RESPONSE and len(response) > 3:
        return f"{to_hex(response[:3])} + {len(response) - 3} bytes not shown"
    return to_hex(response)


def _shown_arguments(given: Mapping[str, Any]) -> str:
    """Arguments of a service for people: what it is about first, identifiers and bytes in hexadecimal."""
    shown = []
    for name, value in sorted(given.items(), key=lambda item: item[0] == "value" or item[0] in _SECRET):
        if name in _SECRET:
            shown.append(f" {name} not shown")
        elif name in ("did", "group", "mask") and isinstance(value, int):
            shown.append(f" 0x{value:0{4 if name == 'did' else 2}X}")
        else:
            shown.append(f" {to_hex(value) if isinstance(value, bytes) else value}")
    return "".join(shown)
