"""The diagnostic services of the simulated ECU, one module each: rows of refusals, and what the service does."""

from ecu_adapters.simulator.rules import Service
from ecu_adapters.simulator.services import (
    clear_diagnostic_information,
    diagnostic_session_control,
    ecu_reset,
    read_data_by_identifier,
    read_dtc_information,
    security_access,
    tester_present,
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
        tester_present,
    )
}
"""By service identifier."""
