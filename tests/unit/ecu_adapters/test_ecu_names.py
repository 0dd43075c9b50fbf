"""Names and meanings of services and negative response codes."""

import pytest

from ecu_adapters.uds.names import NRCS, SERVICES, nrc_meaning, nrc_name, service_name


@pytest.mark.parametrize(
    ("nrc", "name", "meaning"),
    [
        (0x33, "securityAccessDenied", "locked; unlock with SecurityAccess first"),
        (0x50, "certificateVerificationFailedInvalidTimePeriod", "the certificate is not valid at this time"),
        (0x7F, "serviceNotSupportedInActiveSession", "not in this session; change the session first"),
        (0xF0, "vehicleManufacturerSpecificConditionsNotCorrect", "a condition of the manufacturer is not met"),
        (0xFE, "vehicleManufacturerSpecificConditionsNotCorrect", "a condition of the manufacturer is not met"),
        (0x01, "ISOSAEReserved", "a code that the standard does not define"),
        (0xFF, "ISOSAEReserved", "a code that the standard does not define"),
    ],
)
def test_every_code_has_a_name_and_a_meaning(nrc: int, name: str, meaning: str) -> None:
    assert (nrc_name(nrc), nrc_meaning(nrc)) == (name, meaning)


def test_a_name_stands_for_one_code() -> None:
    names = [name for name, _ in NRCS.values()]
    assert len(set(names)) == len(names)
    assert all(meaning for _, meaning in NRCS.values())


def test_services() -> None:
    assert service_name(0x22) == "ReadDataByIdentifier"
    assert service_name(0xBA) == "service 0xBA"
    assert len(set(SERVICES.values())) == len(SERVICES)
