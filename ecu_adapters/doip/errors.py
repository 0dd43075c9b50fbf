"""How DoIP fails: the refusals of ISO 13400-2, by their codes."""

from ecu_adapters.transport import Fault, TransportError

HEADER_CODES = {
    0x00: "incorrect pattern format",
    0x01: "unknown payload type",
    0x02: "message too large",
    0x03: "out of memory",
    0x04: "invalid payload length",
}
ROUTING_CODES = {
    0x00: "unknown source address",
    0x01: "all TCP sockets are registered and active",
    0x02: "another source address is active on this connection",
    0x03: "the source address is active on another connection",
    0x04: "authentication is missing",
    0x05: "the confirmation was rejected",
    0x06: "unsupported activation type",
    0x07: "TLS is required",
    0x10: "routing is activated",
    0x11: "a confirmation is required",
}
DIAGNOSTIC_CODES = {
    0x02: "invalid source address",
    0x03: "unknown target address",
    0x04: "diagnostic message too large",
    0x05: "out of memory",
    0x06: "target unreachable",
    0x07: "unknown network",
    0x08: "transport protocol error",
}


def meaning(codes: dict[int, str], code: int) -> str:
    """What a code says, and its number."""
    return f"{codes.get(code, 'a code that ISO 13400-2 does not know')} (0x{code:02X})"


class DoIpError(TransportError):
    """A PDU could not be sent or received."""


class HeaderNack(DoIpError):
    """The entity did not take the header of a message (payload type 0x0000). ``code`` says why."""

    def __init__(self, place: str, code: int, frame: str = "") -> None:
        super().__init__(f"{place} refused a message: {meaning(HEADER_CODES, code)}", Fault.REFUSED, frame)
        self.code = code


class RoutingDenied(DoIpError):
    """The entity denied routing activation (payload type 0x0006). ``code`` says why."""

    def __init__(self, place: str, tester: int, code: int, frame: str = "") -> None:
        reason = meaning(ROUTING_CODES, code)
        message = f"{place} denied routing activation to tester 0x{tester:04X}: {reason}"
        super().__init__(message, Fault.REFUSED, frame)
        self.code = code


class DiagnosticNack(DoIpError):
    """The entity did not pass a diagnostic message on (payload type 0x8003). ``code`` says why."""

    def __init__(self, place: str, target: int, code: int, frame: str = "") -> None:
        reason = meaning(DIAGNOSTIC_CODES, code)
        super().__init__(f"{place} refused a message to 0x{target:04X}: {reason}", Fault.REFUSED, frame)
        self.code = code
