"""ResponseOnEvent (0x86; ISO 14229-1:2020, 10.9): the ECU answers a request whenever an event happens.

udsoncan does not have this service. What the ECU then sends answers no request of ours; `events` takes it.
"""

from ecu_adapters.uds.names import NEGATIVE, POSITIVE_OFFSET, service_name
from ecu_adapters.uds.services import arguments, results
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid
from ecu_adapters.uds.unsolicited import Pdu

EVENTS = {
    "stop": 0x00,
    "dtc_status_change": 0x01,
    "timer": 0x02,
    "did_change": 0x03,
    "report": 0x04,
    "start": 0x05,
    "clear": 0x06,
    "comparison": 0x07,
    "latest_dtc_on_status_change": 0x08,
    "dtc_record_on_status_change": 0x09,
}
"""Event types by name."""
_RECORD_LENGTHS = {0x01: 1, 0x02: 1, 0x03: 2, 0x07: 10, 0x08: 1}
"""Bytes of the eventTypeRecord, where the standard fixes them."""
_CONTROLS = (0x00, 0x04, 0x05, 0x06)
"""Event types that set nothing up: no record, no service to respond to."""
_STORE = 0x40
_FOREVER = 0x02
_MOST = 1000
_LONGEST_MS = 3_600_000


async def _response_on_event(
    use: Call,
    event: Plain,
    window: Plain = _FOREVER,
    record: Plain = b"",
    respond: Plain = b"",
    store: Plain = False,
    did: Plain = None,
    mask: Plain = None,
) -> Outcome:
    number = arguments.named(event, EVENTS, "event", 0x3F)
    data = arguments.octets(record, "record")
    if did is not None:
        if number != EVENTS["did_change"]:
            raise UdsInvalid("did goes with the event did_change, and only with it")
        data = arguments.data_identifier(use.ecu, did)[0].to_bytes(2, "big")
    if mask is not None:
        if number not in (EVENTS["dtc_status_change"], EVENTS["latest_dtc_on_status_change"]):
            raise UdsInvalid("mask goes with the events dtc_status_change and latest_dtc_on_status_change")
        data = bytes((arguments.byte(mask, "mask"),))
    answer = arguments.octets(respond, "respond")
    name = arguments.name_of(number, EVENTS)
    if number in _CONTROLS:
        if data or answer:
            raise UdsInvalid(f"{name} takes neither record nor respond")
    else:
        length = _RECORD_LENGTHS.get(number)
        if length is not None and len(data) != length:
            raise UdsInvalid(f"record of {name} has {len(data)} bytes; it must have {length}")
        if not answer:
            raise UdsInvalid(f"{name} needs respond: the request that the ECU shall answer on each event")
    sub = number | (_STORE if store else 0)
    request = bytes((0x86, sub, arguments.byte(window, "window"))) + data + answer
    response, exchange = await use.raw(request)
    if len(response) < 3:
        raise use.malformed("has no number of events", exchange)
    result: dict[str, Plain] = {"event": name, "events": response[2], "raw": response[2:]}
    if number != EVENTS["report"] and len(response) > 3:
        result["window"] = response[3]
    return Outcome(result, exchange)


async def _events(use: Call, count: Plain = 1, wait_ms: Plain = None) -> Outcome:
    """What the ECU sent unasked since the last call, and what still comes until there are ``count``."""
    wanted = arguments.integer(count, "count", _MOST, least=1)
    wait_s = use.timeout_s if wait_ms is None else arguments.integer(wait_ms, "wait_ms", _LONGEST_MS) / 1000
    found = await use.tester.unsolicited.events.take(wanted, min(wait_s, use.timeout_s))
    return Outcome([_event(use, pdu) for pdu in found], None)


async def _dropped(use: Call) -> Outcome:
    """How much of what the ECU sent unasked nobody took in time."""
    unsolicited = use.tester.unsolicited
    return Outcome({"events": unsolicited.events.dropped, "periodic": unsolicited.periodic.dropped}, None)


def _event(use: Call, pdu: Pdu) -> Plain:
    data = pdu.data
    negative = data[0] == NEGATIVE and len(data) == 3
    service = data[1] if negative else (data[0] - POSITIVE_OFFSET) & 0xFF
    event: dict[str, Plain] = {"service": service, "service_name": service_name(service), "raw": data, "at": pdu.at}
    if negative:
        event["nrc"] = data[2]
    elif service == 0x22 and len(data) > 3:
        number, name, model = arguments.data_identifier(use.ecu, int.from_bytes(data[1:3], "big"))
        if model is not None and len(data) == 3 + model.length:
            event |= {"name": name, "did": number, "value": results.plain(model.decode(data[3:]))}
    return event


_OPTIONS = ("window", "record", "respond", "store", "did", "mask")
SERVICES = {
    "response_on_event": Service(_response_on_event, ("event",), _OPTIONS),
    "events": Service(_events, optional=("count", "wait_ms"), exchanges=0),
    "dropped": Service(_dropped, exchanges=0),
}
