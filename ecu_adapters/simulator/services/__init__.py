"""The diagnostic services of the simulated ECU, one module each: rows of refusals, and what the service does."""

from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator.rules import Service
from ecu_adapters.simulator.services import (
    clear_diagnostic_information,
    diagnostic_session_control,
    ecu_reset,
    read_data_by_identifier,
    read_dtc_information,
    request_download,
    request_transfer_exit,
    request_upload,
    routine_control,
    security_access,
    tester_present,
    transfer_data,
    write_data_by_identifier,
)

SERVICES: dict[int, Service] = {
    module.SERVICE.sid: module.SERVICE
    for module in (
        diagnostic_session_control,
        ecu_reset,
        clear_diagnostic_information,
        read_dtc_information,
        read_data_by_identifier,
        security_access,
        write_data_by_identifier,
        routine_control,
        request_download,
        request_upload,
        transfer_data,
        request_transfer_exit,
        tester_present,
    )
}
"""By service identifier."""


def services_of(ecu: EcuDescription) -> dict[int, Service]:
    """Those that an ECU of this description has."""
    return {
        sid: service for sid, service in SERVICES.items() if service.offered(ecu) and ecu.services.get(sid) is not False
    }
