"""Diagnostic trouble codes: three bytes on the wire, "P0301" or "P0301-11" for people.

Two bytes carry the code of SAE J2012 (letter, four digits), the third the failure type (ISO 14229-1 annex D,
SAE J2012-DA); a failure type of 00 is left out of the text.
"""

import re

STATUS_BITS = (
    "test_failed",
    "test_failed_this_cycle",
    "pending",
    "confirmed",
    "not_completed_since_clear",
    "failed_since_clear",
    "not_completed_this_cycle",
    "warning_indicator",
)
"""Names of the status bits, from bit 0 (ISO 14229-1 annex D.2)."""

NOT_COMPLETED = 0x50
"""Status right after ClearDiagnosticInformation: no test has completed, neither since the clear nor in this cycle."""

SEVERITIES = {"none": 0x00, "maintenance_only": 0x20, "check_at_next_halt": 0x40, "check_immediately": 0x80}
"""Bits 7 to 5 of DTCSeverity by name (ISO 14229-1 annex D.3)."""

_LETTERS = "PCBU"
_CODE = re.compile(r"([PCBU])([0-3])([0-9A-F]{3})(?:-([0-9A-F]{2}))?")


def parse(code: str) -> int:
    """The three bytes of a code as a number, 0xC10000 for "U0100". Raises ValueError."""
    match = _CODE.fullmatch(code.upper())
    if match is None:
        raise ValueError(
            f"{code!r} is no trouble code: expected P, C, B or U, a digit 0 to 3, three hex digits, and if need be a "
            "dash and two hex digits of failure type (P0301, U0100-11)"
        )
    letter, first, rest, failure_type = match.groups()
    high = _LETTERS.index(letter) << 14 | int(first) << 12 | int(rest, 16)
    return high << 8 | int(failure_type or "0", 16)


def text(dtc: int) -> str:
    """A three-byte number as a code for people, "U0100" for 0xC10000."""
    high, failure_type = dtc >> 8, dtc & 0xFF
    code = f"{_LETTERS[high >> 14]}{high >> 12 & 3}{high & 0xFFF:03X}"
    return f"{code}-{failure_type:02X}" if failure_type else code


def severity(byte: int) -> str:
    """The name of the severity; of several bits the gravest counts."""
    return next((name for name, bit in reversed(SEVERITIES.items()) if byte & bit), "none")


def flags(status: int) -> dict[str, bool]:
    """The bits of a status byte by name."""
    return {name: bool(status >> bit & 1) for bit, name in enumerate(STATUS_BITS)}
