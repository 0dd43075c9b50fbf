"""Descriptions of other tools: ODX, PDX and CDD become data identifiers, routines and trouble codes of an ECU."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench_agent.main import main
from ecu_adapters import descriptions, records
from ecu_adapters.description import load_ecu
from ecu_adapters.descriptions.layout import Placed, Unmapped, big_endian, fields
from ecu_adapters.dids import StructDid
from ecu_adapters.yaml_file import ConfigError
from tests.unit.ecu_adapters.vehicle_odx import CDD, write_odx, write_pdx

Write = Callable[[str], Path]

HEAD = "name: ECM\naddressing: {request_id: 0x7E0, response_id: 0x7E8}\n"


@pytest.mark.parametrize("written", [write_odx, write_pdx])
def test_an_ecu_out_of_odx(write: Write, tmp_path: Path, written: Callable[[Path], Path]) -> None:
    path = written(tmp_path)
    ecu = load_ecu(write(HEAD + f"description: {path.name}#ECM_V2"))
    vin, state = ecu.dids["VIN"], ecu.dids["Engine_State"]
    assert (vin.did, vin.type, vin.length, bool(vin.read), bool(vin.write)) == (0xF190, "ascii", 3, True, True)
    assert isinstance(state, StructDid)
    assert state.decode(bytes.fromhex("0C 80 11 34 12 5A")) == {
        "Speed": 800, "Mode": "Run", "Fault": 1, "Count": 0x1234, "Temp": 50,
    }  # fmt: skip
    assert records.units(state.fields) == {"Speed": "rpm", "Temp": "°C"}
    target = ecu.dids["Target"]
    assert (target.read, target.unit, target.encode(800.25)) == (False, "rpm", b"\x0c\x81")
    (name, erase), results = next(iter(ecu.routines.items())), ecu.routines["Erase"].results
    assert (name, erase.id, erase.stop) == ("Erase", 0xFF00, None)
    assert erase.start is not None
    assert results is not None
    assert records.encode(erase.start.options, {"address": 0x8000, "size": 16}).hex() == "0000800000000010"
    assert records.decode(results.status, b"\x01") == {"result": "failed"}
    assert [(dtc.code, dtc.text, dtc.status) for dtc in ecu.dtcs] == [
        ("P0301", "Cylinder 1 misfire", 0x50),
        ("U0100-11", "No ECM", 0x50),
    ]
    assert sorted(ecu.unmapped) == [
        "data identifier Engine_State (0x0100): a text of Mode (Reserved) is not mapped: it stands for 2 .. 7",
        "service Read_Log: the length of Log (VALUE) is not fixed",
        "service Read_Speed_Again: another service reads data identifier 0x0101 too",
    ]


def test_the_file_says_more_and_says_it_last(write: Write, tmp_path: Path) -> None:
    write_odx(tmp_path)
    ecu = load_ecu(
        write(
            HEAD
            + """description: vehicle.odx-d#ECM
dids:
  VIN: {value: ABC, write: {session: [extended]}}
  Revs: {did: 0x0101, type: uint, length: 2}
  Log: {did: 0x0200, type: hex, length: 4}
dtcs:
  - {code: p0301, status: 0x2F, severity: check_immediately}
  - {code: P0420}
routines: {Erase: {access: {session: [programming]}}}
"""
        )
    )
    assert ecu.dids["VIN"].value == "ABC"
    assert ecu.dids["Revs"].did == 0x0101
    assert "Speed" not in ecu.dids
    assert [(dtc.code, dtc.text, dtc.status) for dtc in ecu.dtcs] == [
        ("P0301", "Cylinder 1 misfire", 0x2F),
        ("P0420", "", 0x2F),
        ("U0100-11", "No ECM", 0x50),
    ]
    assert ecu.routines["Erase"].id == 0xFF00
    assert ecu.routines["Erase"].access.session == ["programming"]


def test_data_identifiers_out_of_cdd(write: Write, tmp_path: Path) -> None:
    (tmp_path / "ecm.cdd").write_text(CDD)
    ecu = load_ecu(write(HEAD + "description: ecm.cdd"))
    state = ecu.dids["Engine_State"]
    assert state.decode(bytes.fromhex("0C 80 01 34 12")) == {"Speed": 800, "Mode": "Run", "Count": 0x1234}
    assert (ecu.dids["VIN"].did, ecu.dids["VIN"].type, ecu.dids["VIN"].length) == (0xF190, "hex", 17)
    assert ecu.unmapped[1:] == ["data identifier Nothing (0x0200): it has no data"]
    assert "routines, trouble codes" in ecu.unmapped[0]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("absent.pdx", "absent.pdx cannot be read: No such file or directory"),
        ("vehicle.odx-d", "has several ECUs: write FILE#ECU; known: ECM, ECM_V2"),
        ("vehicle.odx-d#ECN", "has no ECU 'ECN'; did you mean ECM"),
        ("broken.pdx#ECM", "broken.pdx cannot be read as ODX: BadZipFile"),
        ("broken.odx-d#ECM", "broken.odx-d cannot be read as ODX: ParseError"),
        ("broken.cdd", "broken.cdd cannot be read as CDD: ParseError"),
        ("ecm.cdd#ECM", "of which the first ECU is read; leave #ECM out"),
        ("vehicle.txt", "is of no known kind: .pdx, .odx-d or .cdd"),
    ],
)
def test_what_cannot_be_imported_is_a_mistake_with_its_line(
    write: Write, tmp_path: Path, reference: str, message: str
) -> None:
    write_odx(tmp_path)
    (tmp_path / "ecm.cdd").write_text(CDD)
    for name in ("broken.pdx", "broken.odx-d", "broken.cdd", "vehicle.txt"):
        (tmp_path / name).write_text("neither this nor that")
    path = write(HEAD + f"description: {reference}")
    with pytest.raises(ConfigError, match=message) as caught:
        load_ecu(path)
    assert f"{path}:3: description: " in str(caught.value)


def test_check_lists_what_could_not_be_mapped(tmp_path: Path) -> None:
    write_pdx(tmp_path)
    (tmp_path / "ecm.yaml").write_text(HEAD + "description: vehicle.pdx#ECM")
    (tmp_path / "agent.yaml").write_text(
        "agent: {name: a1, data_dir: data}\nbenches:\n  - name: b1\n"
        "    can: [{name: p, interface: virtual, channel: x}]\n    ecus: [{file: ecm.yaml, bus: p}]\n"
    )
    result = CliRunner().invoke(main, ["check", str(tmp_path / "agent.yaml")])
    assert result.exit_code == 0
    assert "not taken from vehicle.pdx#ECM: service Read_Log: the length of Log (VALUE) is not fixed" in result.output
    assert "1 benches, no mistakes" in result.output


def test_an_entry_that_cannot_be_does_not_spoil_the_others(tmp_path: Path) -> None:
    (tmp_path / "ecm.cdd").write_text(CDD.replace('bl="136"', 'bl="80000"'))
    imported = descriptions.load("ecm.cdd", tmp_path)
    assert list(imported.dids) == ["Engine_State"]
    assert any(what.startswith("data identifier VIN: ") for what in imported.unmapped)


@pytest.mark.parametrize(
    ("byte", "lowest", "bits", "start"), [(0, 0, 8, 0), (0, 4, 4, 0), (0, 0, 4, 4), (1, 0, 16, 8), (0, 4, 8, 4)]
)
def test_where_a_big_endian_value_starts(byte: int, lowest: int, bits: int, start: int) -> None:
    assert big_endian(byte, lowest, bits) == start


def test_values_that_overlap_or_do_not_fill_bytes_have_no_fields() -> None:
    first = Placed("A", 0, 12, {"type": "uint"})
    with pytest.raises(Unmapped, match="B overlaps the value before it"):
        fields([first, Placed("B", 8, 8, {"type": "uint"})])
    with pytest.raises(Unmapped, match="A is of type int and does not fill whole bytes"):
        fields([Placed("A", 0, 12, {"type": "int"})])
    assert fields([first]) == [
        {"name": "A", "type": "bits", "length": 12},
        {"type": "reserved", "length": 4},
    ]


def test_odxtools_is_not_imported_where_nobody_needs_it() -> None:
    code = "import sys, bench_agent.server.agent; sys.exit('odxtools' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
