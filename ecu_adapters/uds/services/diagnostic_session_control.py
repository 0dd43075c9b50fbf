"""DiagnosticSessionControl (0x10)."""

from udsoncan.services.DiagnosticSessionControl import DiagnosticSessionControl

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service


async def _session(use: Call, session: Plain) -> Outcome:
    number = arguments.named(session, use.ecu.sessions, "session", 0x7F)
    response, exchange = await use.exchange(DiagnosticSessionControl.make_request(number))
    # 2006: ECUs of that edition answer without the four timing bytes.
    data = DiagnosticSessionControl.interpret_response(response, standard_version=2006).service_data
    result: dict[str, Plain] = {"session": use.ecu.session_name(data.session_echo)}
    record = data.session_param_records
    if len(record) == 4:
        result["p2_ms"] = int.from_bytes(record[:2], "big")
        result["p2_star_ms"] = int.from_bytes(record[2:], "big") * 10
    return Outcome(result, exchange)


SERVICES = {"session": Service(_session, ("session",))}
