"""Whatever faults strike an ECU, and whatever it is asked meanwhile: once they are cleared it is well again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.description import EcuDescription
from ecu_adapters.simulation import Fault
from ecu_adapters.simulator import UdsServer, VirtualClock
from ecu_adapters.simulator.faults import FaultInjector

ECU = EcuDescription.model_validate(
    {
        "name": "ECM",
        "addressing": {"request_id": 0x7E0, "response_id": 0x7E8},
        "dids": {"Code": {"did": 1, "type": "uint", "length": 1, "value": 7, "write": {}}},
        "dtcs": [{"code": "P0301"}],
        "security": {1: {"algorithm": "xor", "key": "A5"}},
        "simulation": {"service_delay_ms": {0x14: 120}, "reset_ms": 100},
    }
)
REQUESTS = [
    bytes.fromhex(text) for text in ("22 0001", "2E 0001 09", "10 03", "27 01", "14 FFFFFF", "11 01", "3E 80", "BA")
]
SERVICES = st.none() | st.sampled_from([request[0] for request in REQUESTS])


def fields(kind: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Fault]:
    times = st.none() | st.integers(1, 3)
    given_fields = st.fixed_dictionaries({"kind": st.just(kind), "service": SERVICES, "times": times, **more})
    return given_fields.map(Fault.model_validate)


FAULTS = st.one_of(
    fields("nrc", nrc=st.integers(1, 0xFF)),
    fields("pending", count=st.none() | st.integers(1, 5), delay_ms=st.just(0) | st.integers(0, 10_000)),
    fields("no_answer"),
    fields("garbage", data=st.binary(max_size=8)),
    fields("other_service"),
    fields("slow", delay_ms=st.integers(0, 10_000)),
    fields("truncated", length=st.integers(1, 5)),
)
STEPS = st.one_of(
    st.tuples(st.just("inject"), FAULTS),
    st.tuples(st.just("ask"), st.sampled_from(REQUESTS)),
    st.tuples(st.just("wait"), st.floats(0.001, 3)),
    st.tuples(st.just("power"), st.booleans()),
)


@given(st.lists(STEPS, max_size=25))
def test_an_ecu_recovers_from_any_faults(steps: list[tuple[str, Any]]) -> None:
    clock, said = VirtualClock(), list[bytes]()
    faults, powered = FaultInjector(), True
    server = UdsServer(ECU, clock, said.append, faults=faults)
    for kind, what in steps:
        match kind:
            case "inject":
                faults.inject(what)
            case "ask":
                server.receive(what)
            case "wait":
                clock.advance(what)
            case "power":
                powered = what
                server.power(what, 0.05)
    faults.clear()
    server.relent()
    if not powered:
        server.power(True, 0.05)
    clock.advance(20)
    said.clear()
    server.receive(b"\x22\x00\x01")
    assert len(said) == 1
    assert said[0] in (b"\x62\x00\x01\x07", b"\x62\x00\x01\x09")
    clock.advance(20)
    assert len(said) == 1, "nothing comes late"
