"""Which response belongs to which request, by what the response repeats of it (ISO 14229-1, clauses 9 to 15)."""

from ecu_adapters.uds.names import NEGATIVE, POSITIVE_OFFSET, SUPPRESS_POSITIVE, WITH_SUBFUNCTION

_ECHOED = {
    0x10: 1,
    0x11: 1,
    0x19: 1,
    0x24: 2,
    0x27: 1,
    0x28: 1,
    0x29: 1,
    0x2C: 3,
    0x2E: 2,
    0x2F: 3,
    0x31: 3,
    0x36: 1,
    0x38: 1,
    0x3E: 1,
    0x83: 1,
    0x85: 1,
    0x86: 1,
    0x87: 1,
}
"""How many bytes after the service identifier a positive response repeats from the request."""
_DTC_RECORDS = (0x04, 0x06, 0x10)
"""Sub-functions of ReadDTCInformation whose response repeats the trouble code too."""


def answers(request: bytes, response: bytes) -> bool:
    """Whether ``response`` belongs to ``request``, so that a late answer to an earlier one is not taken for it.

    A response that is too short to tell belongs to it, malformed as it is.
    """
    service = request[0]
    if response[0] == NEGATIVE:
        return len(response) < 2 or response[1] == service
    if response[0] != (service + POSITIVE_OFFSET) & 0xFF:
        return False
    if service == 0x22:
        # The ECU may leave out identifiers that it does not know, the first one too.
        asked = {request[at : at + 2] for at in range(1, len(request) - 1, 2)}
        return len(response) < 3 or response[1:3] in asked
    if service == 0x2A:
        # Longer ones are the periodic values themselves.
        return len(response) == 1
    echoed = request[1 : 1 + _echo_length(request)]
    if service in WITH_SUBFUNCTION and echoed:
        echoed = bytes((echoed[0] & ~SUPPRESS_POSITIVE,)) + echoed[1:]
    return response[1 : 1 + len(echoed)] == echoed or len(response) <= len(echoed)


def _echo_length(request: bytes) -> int:
    if request[0] == 0x3D and len(request) > 1:
        # Format identifier, address and size.
        return 1 + (request[1] & 0xF) + (request[1] >> 4)
    if request[0] == 0x19 and len(request) > 1 and request[1] & ~SUPPRESS_POSITIVE in _DTC_RECORDS:
        return 4
    return _ECHOED.get(request[0], 0)
