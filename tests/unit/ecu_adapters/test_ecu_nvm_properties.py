"""Whatever has happened to a simulated ECU: what is kept of it brings back the same ECU."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator import VirtualClock
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.nvm import NvmFolder
from ecu_adapters.simulator.state import EcuState

ECU = EcuDescription.model_validate(
    {
        "name": "ECM",
        "addressing": {"request_id": 0x7E0, "response_id": 0x7E8},
        "dids": {
            "Code": {"did": 1, "type": "hex", "length": 2, "value": "0000"},
            "Odometer": {"did": 2, "type": "uint", "length": 3},
        },
        "dtcs": [
            {"code": "P0301", "status": 0, "confirm_after": 2, "age_after": 2, "snapshot": ["Odometer"]},
            {"code": "U0100", "status": 0x28, "permanent": True},
        ],
        "security": {1: {"algorithm": "xor", "key": "A5", "attempts": 2, "delay_s": 10}},
        "memory": {
            "regions": {
                "flash": {"address": 0, "size": 64},
                "eeprom": {"address": 64, "size": 16, "kind": "eeprom"},
                "ram": {"address": 128, "size": 16, "kind": "ram"},
            }
        },
        "files": {"content": {"log.txt": "41"}, "max_total": 1000},
    }
)
CODES = st.sampled_from([dtc.number for dtc in ECU.dtcs])

Act = Callable[[EcuState], object]
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(lambda data: lambda s: s.data.write(1, data), st.binary(min_size=2, max_size=2)),
    st.builds(lambda data: lambda s: s.data.write(2, data), st.binary(min_size=3, max_size=3)),
    st.builds(lambda code: lambda s: s.dtcs.failed(code), CODES),
    st.builds(lambda code: lambda s: s.dtcs.passed(code), CODES),
    st.builds(lambda code: lambda s: s.dtcs.clear(code), CODES | st.just(0xFFFFFF)),
    st.just(lambda s: s.dtcs.new_cycle()),
    st.just(lambda s: s.try_key(1, s.new_seed(1))),
    st.builds(
        lambda address, data: lambda s: s.memory.poke(Range(address, len(data)), data),
        st.integers(0, 60) | st.integers(64, 76),
        st.binary(min_size=1, max_size=4),
    ),
    st.builds(lambda name, content: lambda s: s.files.files.update({name: content}), st.text(), st.binary(max_size=9)),
)


@given(st.lists(acts, max_size=30))
def test_what_is_kept_brings_back_the_same_ecu(history: list[Act]) -> None:
    before = EcuState(ECU, VirtualClock())
    for act in history:
        act(before)
    with TemporaryDirectory() as folder:
        NvmFolder(Path(folder)).save(before.dump(), dict(before.memory.lasting()))
        document, regions = NvmFolder(Path(folder)).load()
    assert document is not None
    after = EcuState(ECU, VirtualClock())
    after.restore(document)
    for name, content in regions.items():
        assert after.memory.restore(name, content)
    assert after.dump() == before.dump() == json.loads(json.dumps(document))
    assert after.dtcs.statuses() == before.dtcs.statuses()
    assert after.seeds.is_locked_out(1) == before.seeds.is_locked_out(1)
    assert after.memory.read(Range(0, 64)) == before.memory.read(Range(0, 64))
    assert after.memory.read(Range(64, 16)) == before.memory.read(Range(64, 16))
