"""Diagnostic services by name: from plain arguments to a request PDU, and from the response PDU to a plain result.

One module per service, named after it, with its entries in `SERVICES`. The coding is udsoncan's where it has it (its
request builders and response interpreters; not its client); the meaning of data identifiers, routines and trouble codes
is that of the ECU's description.
"""

from collections.abc import Mapping

from udsoncan.exceptions import InvalidResponseException, UnexpectedResponseException

from ecu_adapters.uds.services import (
    access_timing_parameter,
    authentication,
    clear_diagnostic_information,
    communication_control,
    control_dtc_setting,
    diagnostic_session_control,
    dtc_records,
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
    response_on_event,
    routine_control,
    security_access,
    tester_present,
    transfer_data,
    write_data_by_identifier,
    write_memory_by_address,
)
from ecu_adapters.uds.services.base import Call, NegativeResponse, Outcome, Plain, Service, Tester, UdsInvalid
from ecu_adapters.uds.tester import UdsUnexpected
from ecu_adapters.yaml_file import nearest

__all__ = ["SERVICES", "NegativeResponse", "Outcome", "Plain", "Service", "UdsInvalid", "call", "find"]

SERVICES: dict[str, Service] = {
    **diagnostic_session_control.SERVICES,
    **ecu_reset.SERVICES,
    **clear_diagnostic_information.SERVICES,
    **read_dtc_information.SERVICES,
    **dtc_records.SERVICES,
    **read_data_by_identifier.SERVICES,
    **read_memory_by_address.SERVICES,
    **read_scaling_data_by_identifier.SERVICES,
    **security_access.SERVICES,
    **communication_control.SERVICES,
    **authentication.SERVICES,
    **read_data_by_periodic_identifier.SERVICES,
    **dynamically_define_data_identifier.SERVICES,
    **write_data_by_identifier.SERVICES,
    **input_output_control_by_identifier.SERVICES,
    **routine_control.SERVICES,
    **request_download.SERVICES,
    **transfer_data.SERVICES,
    **request_file_transfer.SERVICES,
    **write_memory_by_address.SERVICES,
    **tester_present.SERVICES,
    **access_timing_parameter.SERVICES,
    **control_dtc_setting.SERVICES,
    **response_on_event.SERVICES,
    **link_control.SERVICES,
}
"""Services by name."""


def find(service: str) -> Service:
    """A service by name. Raises UdsInvalid, naming the nearest."""
    entry = SERVICES.get(service)
    if entry is None:
        raise UdsInvalid(f"unknown service {service!r}; {nearest(service, SERVICES)}")
    return entry


async def call(tester: Tester, service: str, arguments: Mapping[str, Plain], *, timeout_s: float) -> Outcome:
    """Runs one of `SERVICES` with plain arguments.

    ``timeout_s`` bounds each exchange of the service (``unlock`` takes two). Raises UdsInvalid before anything is sent,
    NegativeResponse when the ECU refuses, and what `UdsTester.request` raises.
    """
    entry = find(service)
    _check_arguments(service, entry, arguments)
    try:
        return await entry.run(Call(tester, timeout_s), **arguments)
    except (InvalidResponseException, UnexpectedResponseException) as error:
        raise UdsUnexpected(f"{service} of {tester.ecu.name}: {error}") from error


def _check_arguments(service: str, entry: Service, arguments: Mapping[str, Plain]) -> None:
    known = (*entry.required, *entry.optional)
    for name in arguments:
        if name not in known:
            raise UdsInvalid(f"{service} has no argument {name!r}; {nearest(name, known)}")
    for name in entry.required:
        if arguments.get(name) is None:
            raise UdsInvalid(f"{service} needs the argument {name!r}")
