"""Which bytes of a request or response nobody but the ECU may see: keys and proofs. Logs and errors leave them out.

Traces of the bus hold them all the same, as the bus does.
"""

from ecu_adapters.uds.names import POSITIVE_OFFSET, SUPPRESS_POSITIVE

_SECURITY_ACCESS = 0x27
_AUTHENTICATION = 0x29
_WITH_PROOF = (0x03, 0x06, 0x07)
"""Sub-functions of Authentication whose request carries a proof of ownership, and whose response may carry a key."""
_SHOWN = 8


def public_length(pdu: bytes) -> int:
    """How many bytes from the start may be shown."""
    if len(pdu) < 2:
        return len(pdu)
    service, sub = pdu[0], pdu[1] & ~SUPPRESS_POSITIVE
    if service == _SECURITY_ACCESS and sub % 2 == 0:
        return 2
    if service in (_AUTHENTICATION, _AUTHENTICATION + POSITIVE_OFFSET) and sub in _WITH_PROOF:
        return 2 if service == _AUTHENTICATION else min(3, len(pdu))
    return len(pdu)


def shown(pdu: bytes, limit: int = _SHOWN) -> str:
    """The PDU for people: its first ``limit`` bytes, without what nobody may see."""
    end = min(public_length(pdu), limit)
    return pdu[:end].hex(" ").upper() + (" ..." if end < len(pdu) else "")
