"""UDS for people: names of services, what negative responses mean, what a positive response says.

Names and meanings after ISO 14229-1:2020, Table 23 (services) and Annex A.1 (negative response codes), in our words.
Values of data identifiers are not decoded here: the agent does that with the ECU's description.
"""

SERVICES = {
    0x10: "DiagnosticSessionControl",
    0x11: "ECUReset",
    0x14: "ClearDiagnosticInformation",
    0x19: "ReadDTCInformation",
    0x22: "ReadDataByIdentifier",
    0x23: "ReadMemoryByAddress",
    0x24: "ReadScalingDataByIdentifier",
    0x27: "SecurityAccess",
    0x28: "CommunicationControl",
    0x29: "Authentication",
    0x2A: "ReadDataByPeriodicIdentifier",
    0x2C: "DynamicallyDefineDataIdentifier",
    0x2E: "WriteDataByIdentifier",
    0x2F: "InputOutputControlByIdentifier",
    0x31: "RoutineControl",
    0x34: "RequestDownload",
    0x35: "RequestUpload",
    0x36: "TransferData",
    0x37: "RequestTransferExit",
    0x38: "RequestFileTransfer",
    0x3D: "WriteMemoryByAddress",
    0x3E: "TesterPresent",
    0x84: "SecuredDataTransmission",
    0x85: "ControlDTCSetting",
    0x86: "ResponseOnEvent",
    0x87: "LinkControl",
}

NEGATIVE_RESPONSES = {
    0x10: ("generalReject", "refused, for no reason that another code names"),
    0x11: ("serviceNotSupported", "the ECU does not have this service"),
    0x12: ("subFunctionNotSupported", "the ECU does not have this sub-function"),
    0x13: ("incorrectMessageLengthOrInvalidFormat", "the request has the wrong length or format"),
    0x14: ("responseTooLong", "the answer does not fit the transport"),
    0x21: ("busyRepeatRequest", "busy; ask again later"),
    0x22: ("conditionsNotCorrect", "a condition for it is not met now"),
    0x24: ("requestSequenceError", "another request must come first"),
    0x25: ("noResponseFromSubnetComponent", "the node behind a gateway did not answer"),
    0x26: ("failurePreventsExecutionOfRequestedAction", "a fault (see the DTCs) prevents it"),
    0x31: ("requestOutOfRange", "a parameter, such as the data identifier, is unknown or out of range"),
    0x33: ("securityAccessDenied", "locked; unlock with SecurityAccess first"),
    0x34: ("authenticationRequired", "authenticate first"),
    0x35: ("invalidKey", "the key is wrong"),
    0x36: ("exceededNumberOfAttempts", "too many wrong keys; locked out for a while"),
    0x37: ("requiredTimeDelayNotExpired", "locked out; wait and ask for a seed again"),
    0x70: ("uploadDownloadNotAccepted", "the transfer cannot be started"),
    0x71: ("transferDataSuspended", "the transfer was broken off"),
    0x72: ("generalProgrammingFailure", "erasing or writing the memory failed"),
    0x73: ("wrongBlockSequenceCounter", "a block is missing or out of order"),
    0x78: ("requestCorrectlyReceivedResponsePending", "working on it; the answer comes later"),
    0x7E: ("subFunctionNotSupportedInActiveSession", "not in this session; change the session first"),
    0x7F: ("serviceNotSupportedInActiveSession", "not in this session; change the session first"),
    0x81: ("rpmTooHigh", "the engine speed is too high"),
    0x82: ("rpmTooLow", "the engine speed is too low"),
    0x83: ("engineIsRunning", "the engine runs"),
    0x84: ("engineIsNotRunning", "the engine does not run"),
    0x88: ("vehicleSpeedTooHigh", "the vehicle is too fast"),
    0x92: ("voltageTooHigh", "the supply voltage is too high"),
    0x93: ("voltageTooLow", "the supply voltage is too low"),
}

_SESSIONS = {1: "default", 2: "programming", 3: "extended", 4: "safety system"}
_DTC_LETTERS = "PCBU"
NEGATIVE = 0x7F
POSITIVE_OFFSET = 0x40


def service_name(service: int) -> str:
    """The standard's name of a request's service identifier."""
    return SERVICES.get(service, "service")


def negative_response(code: int) -> tuple[str, str]:
    """Name and meaning of a negative response code."""
    manufacturer = ("vehicleManufacturerSpecificConditionsNotCorrect", "a condition of the manufacturer is not met")
    reserved = ("ISOSAEReserved", "a code that the standard does not define")
    return NEGATIVE_RESPONSES.get(code, manufacturer if 0xF0 <= code <= 0xFE else reserved)


def spaced(data: bytes) -> str:
    """``22 F1 90``."""
    return data.hex(" ").upper()


def identifiers(request: bytes) -> list[int]:
    """The data identifiers that a ReadDataByIdentifier request asks for; empty for any other request."""
    if len(request) < 3 or len(request) % 2 == 0 or request[0] != 0x22:
        return []
    return [int.from_bytes(request[at : at + 2], "big") for at in range(1, len(request), 2)]


def explain(response: bytes) -> str:
    """What a positive response says, as far as its format is the standard's; "" for an empty one."""
    if not response:
        return ""
    service, rest = response[0] - POSITIVE_OFFSET, response[1:]
    match service:
        case 0x10 if len(rest) == 5:
            # Table 29: P2 in ms, P2* in 10 ms
            p2, p2_star = int.from_bytes(rest[1:3], "big"), int.from_bytes(rest[3:5], "big") * 10
            return f"session {_SESSIONS.get(rest[0], f'0x{rest[0]:02X}')}, P2 {p2} ms, P2* {p2_star} ms"
        case 0x19 if len(rest) >= 2 and rest[0] in (0x02, 0x0A) and (len(rest) - 2) % 4 == 0:
            records = [rest[at : at + 4] for at in range(2, len(rest), 4)]
            return "\n".join(f"{dtc(record[:3])} status 0x{record[3]:02X}" for record in records) or "no DTCs"
        case 0x19 if len(rest) == 5 and rest[0] == 0x01:
            return f"{int.from_bytes(rest[3:5], 'big')} DTCs"
        case 0x22 if len(rest) > 2:
            return f"{int.from_bytes(rest[:2], 'big'):04X} = {value(rest[2:])}"
        case 0x27 if rest:
            if rest[0] % 2 == 0:
                return f"level {rest[0] - 1} unlocked"
            return f"seed {spaced(rest[1:])}" if any(rest[1:]) else f"level {rest[0]} is unlocked already"
    return f"{service_name(service)} done"


def value(data: bytes) -> str:
    """Bytes of unknown meaning: hexadecimal, and as text where they are printable."""
    text = data.decode("ascii", errors="replace").rstrip("\0 ")
    return f"{spaced(data)} ({text!r})" if len(text) > 1 and text.isprintable() and text.isascii() else spaced(data)


def dtc(code: bytes) -> str:
    """A three-byte DTC in the notation of SAE J2012-DA: ``P0301``, with its failure type: ``P0301-1A`` if there is."""
    letter = _DTC_LETTERS[code[0] >> 6]
    failure = f"-{code[2]:02X}" if code[2] else ""
    return f"{letter}{code[0] >> 4 & 3:X}{code[0] & 0x0F:X}{code[1]:02X}{failure}"
