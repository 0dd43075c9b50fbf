"""The module uds: diagnostics with the bench's ECUs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scenarios.bindings.context import Context, wait
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import EcuClient

UDS_TIMEOUT_S = 10.0


class UdsBindings:
    """Functions of the module uds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ecus: list[tuple[EcuClient, float]] = []

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.uds_ecu, self.uds_call, self.uds_raw)

    def uds_ecu(self, name: object = None, timeout: object = None) -> int:
        """Opens an ECU; without a name, the only one. Returns its number."""
        timeout_s = UDS_TIMEOUT_S if timeout is None else wait(timeout)
        with self._context.bench_faults():
            bench = self._context.opened()
            if name is None:
                name = self._context.only("ECU", "uds.ecu", bench.describe().ecus)
            client = bench.ecu(str(name))
        self._ecus.append((client, timeout_s))
        return len(self._ecus) - 1

    def uds_call(self, number: int, service: str, arguments: str) -> object:
        """Calls a service by name."""
        client, timeout_s = self._ecus[number]
        given = dict(from_json(arguments) or {})
        if service == "key":
            given["key"] = from_hex(given["key"], "the key")
        if service == "write":
            given["value"] = self._written_value(client.name, given)
        text = f"{client.name} {service}{_shown_arguments(given)}"
        client.last = None
        try:
            with self._context.bench_faults():
                return client.call(service, self._context.bounded(timeout_s), **given)
        finally:
            self._uds_step(client, text)

    def _written_value(self, ecu: str, given: Mapping[str, Any]) -> object:
        """The value for a write: that of a number which the ECU's description does not know is bytes."""
        did, value = given["did"], given["value"]
        if not isinstance(did, int) or not isinstance(value, str):
            return value
        with self._context.bench_faults():
            description = self._context.opened().describe()
        known = {entry.did for found in description.ecus if found.name == ecu for entry in found.dids}
        return value if did in known else from_hex(value, f"the value of 0x{did:04X}")

    def uds_raw(self, number: int, request: object) -> str:
        """Sends a request PDU as it is; the response PDU as it is."""
        client, timeout_s = self._ecus[number]
        pdu = from_hex(str(request), "the request")
        if not pdu:
            raise ScenarioFault("invalid", "the request is empty; it starts with the service identifier")
        client.last = None
        try:
            with self._context.bench_faults():
                return to_hex(client.raw(pdu, self._context.bounded(timeout_s)).response)
        finally:
            self._uds_step(client, f"{client.name} raw")

    def _uds_step(self, client: "EcuClient", text: str) -> None:
        last = client.last
        if last is None or not last.request:  # refused before anything was sent
            self._context.record.step(f"{text}: no exchange")
            return
        pending = f", {len(last.pending_us)} x response pending" if last.pending_us else ""
        response = to_hex(last.response) or "no response"
        self._context.record.step(
            f"{text}: {to_hex(last.request)} -> {response} ({last.elapsed_us / 1000:.1f} ms{pending})"
        )


def _shown_arguments(given: Mapping[str, Any]) -> str:
    """Arguments of a service for people: what it is about first, identifiers and bytes in hexadecimal."""
    shown = []
    for name, value in sorted(given.items(), key=lambda item: item[0] == "value" or item[0] == "key"):
        if name in ("did", "group", "mask") and isinstance(value, int):
            shown.append(f" 0x{value:0{4 if name == 'did' else 2}X}")
        else:
            shown.append(f" {to_hex(value) if isinstance(value, bytes) else value}")
    return "".join(shown)
