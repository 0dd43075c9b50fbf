"""The diagnostic services of the simulated ECU, one module each: rows of refusals, and what the service does."""

from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator.rules import Service
from ecu_adapters.simulator.services import (
    access_timing_parameter,
    authentication,
    clear_diagnostic_information,
    communication_control,
    control_dtc_setting,
    diagnostic_session_control,
    dynamically_define_data_identifier,
    ecu_reset,
    input_output_control_by_identifier,
    link_control,
    read_data_by_identifier,
    read_data_by_periodic_identifier,
    read_dtc_information,
    read_memory_by_address,
    read_scaling_data_by_identifier,
    request_download,
    request_file_transfer,
    request_transfer_exit,
    request_upload,
    response_on_event,
    routine_control,
    security_access,
    tester_present,
    transfer_data,
    write_data_by_identifier,
    write_memory_by_address,
)

SERVICES: dict[int, Service] = {
    module.SERVICE.sid: module.SERVICE
    for module in (
        diagnostic_session_control,
        ecu_reset,
        clear_diagnostic_information,
        read_dtc_information,
        read_data_by_identifier,
        read_memory_by_address,
        read_scaling_data_by_identifier,
        security_access,
        communication_control,
        authentication,
        read_data_by_periodic_identifier,
        dynamically_define_data_identifier,
        write_data_by_identifier,
        input_output_control_by_identifier,
        routine_control,
        request_download,
        request_upload,
        transfer_data,
        request_transfer_exit,
        request_file_transfer,
        write_memory_by_address,
        tester_present,
        access_timing_parameter,
        control_dtc_setting,
        response_on_event,
        link_control,
    )
}
"""By service identifier."""


def services_of(ecu: EcuDescription) -> dict[int, Service]:
    """Those that an ECU of this description has."""
    return {
        sid: service for sid, service in SERVICES.items() if service.offered(ecu) and ecu.services.get(sid) is not False
    }
