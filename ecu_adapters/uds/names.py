"""Names and properties of services and negative response codes (ISO 14229-1, table A.1 and clauses 9 to 15).

The names are the standard's, the meanings are in our words. No other table of them exists: replies carry them.
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
    0x83: "AccessTimingParameter",
    0x84: "SecuredDataTransmission",
    0x85: "ControlDTCSetting",
    0x86: "ResponseOnEvent",
    0x87: "LinkControl",
}

NRCS = {
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
    0x36: ("exceedNumberOfAttempts", "too many wrong keys; locked out for a while"),
    0x37: ("requiredTimeDelayNotExpired", "locked out; wait and ask for a seed again"),
    0x38: ("secureDataTransmissionRequired", "the request must be sent secured"),
    0x39: ("secureDataTransmissionNotAllowed", "the request must not be sent secured"),
    0x3A: ("secureDataVerificationFailed", "the secured request does not verify"),
    0x50: ("certificateVerificationFailedInvalidTimePeriod", "the certificate is not valid at this time"),
    0x51: ("certificateVerificationFailedInvalidSignature", "the certificate's signature is wrong"),
    0x52: ("certificateVerificationFailedInvalidChainOfTrust", "the certificate's chain of trust is broken"),
    0x53: ("certificateVerificationFailedInvalidType", "the certificate is not of the kind asked for"),
    0x54: ("certificateVerificationFailedInvalidFormat", "the certificate's format is wrong"),
    0x55: ("certificateVerificationFailedInvalidContent", "the certificate's content does not fit"),
    0x56: ("certificateVerificationFailedInvalidScope", "the certificate is not for this ECU or this use"),
    0x57: ("certificateVerificationFailedInvalidCertificate", "the certificate is invalid or revoked"),
    0x58: ("ownershipVerificationFailed", "the proof of owning the private key is wrong"),
    0x59: ("challengeCalculationFailed", "the challenge could not be calculated"),
    0x5A: ("settingAccessRightsFailed", "the access rights could not be set"),
    0x5B: ("sessionKeyCreationDerivationFailed", "no session key could be made or derived"),
    0x5C: ("configurationDataUsageFailed", "the configuration data could not be used"),
    0x5D: ("deAuthenticationFailed", "deauthentication failed"),
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
    0x85: ("engineRunTimeTooLow", "the engine has not run long enough"),
    0x86: ("temperatureTooHigh", "the temperature is too high"),
    0x87: ("temperatureTooLow", "the temperature is too low"),
    0x88: ("vehicleSpeedTooHigh", "the vehicle is too fast"),
    0x89: ("vehicleSpeedTooLow", "the vehicle is too slow"),
    0x8A: ("throttlePedalTooHigh", "the throttle pedal is pressed too far"),
    0x8B: ("throttlePedalTooLow", "the throttle pedal is not pressed far enough"),
    0x8C: ("transmissionRangeNotInNeutral", "the transmission is not in neutral"),
    0x8D: ("transmissionRangeNotInGear", "the transmission is not in gear"),
    0x8F: ("brakeSwitchNotClosed", "the brake pedal is not pressed"),
    0x90: ("shifterLeverNotInPark", "the shifter lever is not in park"),
    0x91: ("torqueConverterClutchLocked", "the torque converter clutch is locked"),
    0x92: ("voltageTooHigh", "the supply voltage is too high"),
    0x93: ("voltageTooLow", "the supply voltage is too low"),
    0x94: ("resourceTemporarilyNotAvailable", "a resource is not available now; try again later"),
}
"""Name and meaning by code."""

_MANUFACTURER = ("vehicleManufacturerSpecificConditionsNotCorrect", "a condition of the manufacturer is not met")
_RESERVED = ("ISOSAEReserved", "a code that the standard does not define")

WITH_SUBFUNCTION = frozenset({0x10, 0x11, 0x19, 0x27, 0x28, 0x29, 0x2C, 0x3E, 0x83, 0x85, 0x86, 0x87})
"""Services whose second byte is a sub-function with the suppress-positive-response bit (bit 7)."""

NEGATIVE = 0x7F
"""First byte of a negative response."""
POSITIVE_OFFSET = 0x40
"""Added to the service identifier by a positive response."""
SUPPRESS_POSITIVE = 0x80
"""Bit of a sub-function: send no positive response."""
PENDING = 0x78
"""NRC of a response that is not the final one."""


def service_name(service: int) -> str:
    """The standard's name, or "service 0xBA"."""
    return SERVICES.get(service) or f"service 0x{service:02X}"


def nrc_name(nrc: int) -> str:
    """The standard's name, or what kind of code it is."""
    return _nrc(nrc)[0]


def nrc_meaning(nrc: int) -> str:
    """What the code tells the tester, in a few words."""
    return _nrc(nrc)[1]


def _nrc(nrc: int) -> tuple[str, str]:
    return NRCS.get(nrc) or (_MANUFACTURER if 0xF0 <= nrc <= 0xFE else _RESERVED)
