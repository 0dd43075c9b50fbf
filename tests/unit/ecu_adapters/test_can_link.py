"""Setting SocketCAN interfaces up: what ip shows, what it is told, and what people are told instead.

The JSON texts are ip's own: of a CAN FD controller on SPI, of slcan and of vcan (iproute2 6.1).
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ecu_adapters import can_link
from ecu_adapters.bus import BusError, BusHub
from ecu_adapters.can_config import CanConfig
from ecu_adapters.can_link import LinkError, parse, set_up_command
from ecu_adapters.error_frames import BusState

FD = """[{"ifindex":3,"ifname":"can0","flags":["NOARP","UP","LOWER_UP","ECHO"],"mtu":72,"qdisc":"pfifo_fast",
"operstate":"UP","linkmode":"DEFAULT","group":"default","txqlen":10,"link_type":"can","promiscuity":0,"allmulti":0,
"min_mtu":0,"max_mtu":0,"linkinfo":{"info_kind":"can","info_data":{"ctrlmode":["FD"],"ctrlmode_supported":["LOOPBACK",
"LISTEN-ONLY","BERR-REPORTING","FD","FD-NON-ISO","CC-LEN8-DLC"],"state":"ERROR-PASSIVE","berr_counter":{"tx":0,"rx":135},
"restart_ms":100,"bittiming":{"bitrate":500000,"sample_point":"0.800","tq":25,"prop_seg":31,"phase_seg1":32,
"phase_seg2":16,"sjw":1,"brp":1},"bittiming_const":{"name":"mcp251xfd","tseg1":{"min":2,"max":256},
"tseg2":{"min":1,"max":128},"sjw":{"min":1,"max":128},"brp":{"min":1,"max":256},"brp_inc":1},
"data_bittiming":{"bitrate":2000000,"sample_point":"0.750","tq":25,"prop_seg":7,"phase_seg1":7,"phase_seg2":5,"sjw":1,
"brp":1},"clock":40000000}},"num_tx_queues":1,"parentbus":"spi","parentdev":"spi0.0"}]"""
SLCAN_NEW = """[{"ifindex":3,"ifname":"can0","flags":["NOARP"],"mtu":16,"qdisc":"noop","operstate":"DOWN",
"linkmode":"DEFAULT","group":"default","txqlen":10,"link_type":"can","promiscuity":0,"allmulti":0,"min_mtu":0,"max_mtu":0,
"linkinfo":{"info_kind":"can","info_data":{"ctrlmode_supported":["LISTEN-ONLY"],"state":"STOPPED","restart_ms":0,
"bittiming_bitrate":0,"bitrate_const":[10000,20000,50000,100000,125000,250000,500000,800000,1000000],"clock":0}},
"num_tx_queues":1}]"""
VCAN = """[{"ifindex":2,"ifname":"vcan0","flags":["NOARP","UP","LOWER_UP"],"mtu":16,"qdisc":"noqueue",
"operstate":"UNKNOWN","linkmode":"DEFAULT","group":"default","txqlen":1000,"link_type":"can","promiscuity":0,"allmulti":0,
"min_mtu":0,"max_mtu":0,"linkinfo":{"info_kind":"vcan"},"num_tx_queues":1}]"""


def socketcan(**settings: Any) -> CanConfig:
    return CanConfig(interface="socketcan", channel="can0", **settings)


def fd(**changes: Any) -> CanConfig:
    settings = {"bitrate": 500_000, "sample_point": 0.8, "fd": True, "data_bitrate": 2_000_000}
    return socketcan(**settings | changes)


def test_an_interface_as_it_is() -> None:
    link = parse(FD, "can0")
    assert (link.kind, link.up, link.mtu, link.restart_ms) == ("can", True, 72, 100)
    assert (link.bitrate, link.sample_point) == (500_000, 0.8)
    assert (link.data_bitrate, link.data_sample_point) == (2_000_000, 0.75)
    assert (link.state, link.tx_errors, link.rx_errors) == (BusState.ERROR_PASSIVE, 0, 135)
    fresh = parse(SLCAN_NEW, "can0")
    assert (fresh.up, fresh.bitrate, fresh.state) == (False, None, None)
    assert parse(VCAN, "vcan0").kind == "vcan"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[{}]", "nonsense", '[{"flags":[],"mtu":"x","link_type":"can"}]', "[[]]", "null"]
)
def test_an_answer_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(LinkError, match="can0"):
        parse(text, "can0")


def test_an_interface_of_another_kind_is_refused() -> None:
    with pytest.raises(LinkError, match="eth0 is no CAN interface but one of type ether"):
        parse('[{"flags":["UP"],"mtu":1500,"link_type":"ether"}]', "eth0")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_ip_says_it_is_a_link_or_refused(value: object) -> None:
    for text in (json.dumps(value), json.dumps([value]), json.dumps([{"flags": [], "mtu": 16, "linkinfo": value}])):
        with pytest.raises(LinkError):
            parse(text, "can0")


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (socketcan(bitrate=500_000), "bitrate 500000 fd off listen-only off"),
        (
            socketcan(bitrate=125_000, sample_point=0.875, listen_only=True, restart_ms=200),
            "bitrate 125000 sample-point 0.875 fd off listen-only on restart-ms 200",
        ),
        (
            socketcan(bitrate=500_000, sample_point=0.8, fd=True, data_bitrate=5_000_000, data_sample_point=0.75),
            "bitrate 500000 sample-point 0.8 dbitrate 5000000 dsample-point 0.75 fd on listen-only off",
        ),
    ],
)
def test_an_interface_that_is_down_is_set_up(config: CanConfig, settings: str) -> None:
    command = set_up_command(parse(SLCAN_NEW, "can0"), config)
    assert command == ["ip", *f"link set dev can0 up type can {settings}".split()]


@pytest.mark.parametrize(
    "config",
    [
        fd(),
        fd(bitrate=499_000, sample_point=0.81),  # as near as the clock of a controller may come
        fd(restart_ms=100),
        socketcan(),
        socketcan(fd=True),
        socketcan(bitrate=500_000),  # FD frames may come in, nobody sends any
    ],
)
def test_an_interface_that_is_up_as_configured_is_left_alone(config: CanConfig) -> None:
    assert set_up_command(parse(FD, "can0"), config) is None


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (fd(bitrate=250_000), "bitrate 500000 instead of 250000"),
        (fd(sample_point=0.7), "sample point 0.8 instead of 0.7"),
        (fd(data_bitrate=5_000_000), "data bitrate 2000000 instead of 5000000"),
        (fd(data_sample_point=0.6), "data sample point 0.75 instead of 0.6"),
        (fd(restart_ms=500), "restart-ms 100 instead of 500"),
        (fd(listen_only=True), "listen-only mode off instead of on"),
        (fd(bitrate=1_000_000, listen_only=True), "bitrate 500000 instead of 1000000, listen-only mode off"),
    ],
)
def test_an_interface_that_is_up_otherwise_is_named_with_the_command(config: CanConfig, found: str) -> None:
    with pytest.raises(LinkError) as refused:
        set_up_command(parse(FD, "can0"), config)
    assert f"can0 is up with {found}" in str(refused.value)
    assert "sudo ip link set dev can0 down && sudo ip link set dev can0 up type can bitrate" in str(refused.value)


def test_silence_and_fd_are_checked_even_where_nothing_else_is_configured() -> None:
    silent = parse(FD.replace('["FD"]', '["LISTEN-ONLY"]'), "can0")
    with pytest.raises(LinkError, match="listen-only mode on instead of off"):
        set_up_command(silent, socketcan())
    with pytest.raises(LinkError, match="CAN FD off instead of on"):
        set_up_command(silent, socketcan(fd=True, listen_only=True))


def test_what_is_down_and_not_configured_names_both_ways_out() -> None:
    with pytest.raises(LinkError, match=r"can0 is down; give bitrate.* sudo ip link set dev can0 up type can bitrate"):
        set_up_command(parse(SLCAN_NEW, "can0"), socketcan())


def test_a_bit_rate_that_the_controller_does_not_know_is_told_before() -> None:
    with pytest.raises(LinkError, match="can0 cannot do bitrate 333333; it can do 10000, 20000"):
        set_up_command(parse(SLCAN_NEW, "can0"), socketcan(bitrate=333_333))


def test_vcan_needs_nothing_but_room_for_fd_frames() -> None:
    link = parse(VCAN, "vcan0")
    assert set_up_command(link, socketcan(bitrate=500_000, listen_only=True)) is None
    with pytest.raises(LinkError, match="sudo ip link set dev vcan0 mtu 72"):
        set_up_command(link, socketcan(fd=True))


@pytest.fixture
def fake_ip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ip` that shows what is in the file `link` and does what is in the file `set`; `said` lists its arguments."""
    script = tmp_path / "ip"
    script.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$*" >>said\ncase "$*" in *show*) cat link;; *) . ./set;; esac\n'
    )
    script.chmod(0o755)
    (tmp_path / "link").write_text(SLCAN_NEW)
    (tmp_path / "set").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().splitlines()


def test_set_up_runs_ip_and_looks_again(fake_ip: Path) -> None:
    up = SLCAN_NEW.replace('["NOARP"]', '["NOARP","UP"]').replace('"bittiming_bitrate":0', '"bittiming_bitrate":500000')
    (fake_ip / "set").write_text(f"cat >link <<'E'\n{up}\nE\n")
    link = can_link.prepare(socketcan(bitrate=500_000))
    assert link is not None
    assert (link.up, link.bitrate) == (True, 500_000)
    show = "-details -json link show dev can0"
    assert said(fake_ip) == [show, "link set dev can0 up type can bitrate 500000 fd off listen-only off", show]


def test_without_the_right_the_exact_command_is_printed(fake_ip: Path) -> None:
    (fake_ip / "set").write_text('echo "RTNETLINK answers: Operation not permitted" >&2; exit 2')
    with pytest.raises(BusError) as refused:
        BusHub.open("powertrain", socketcan(bitrate=500_000))
    command = "sudo ip link set dev can0 up type can bitrate 500000 fd off listen-only off"
    assert str(refused.value).endswith(f"needs CAP_NET_ADMIN, which the agent does not have; run: {command}")
    with pytest.raises(LinkError, match="run: sudo ip link set dev can0 type can restart"):
        can_link.restart("can0")


def test_other_failures_are_told_with_the_kernels_words(fake_ip: Path) -> None:
    (fake_ip / "set").write_text('echo "Error: Device doesn\'t support restart from Bus Off." >&2; exit 2')
    with pytest.raises(LinkError, match=re.escape("failed: Device doesn't support restart from Bus Off.")):
        can_link.restart("can0")


def test_an_ip_that_hangs_is_given_up(fake_ip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(can_link, "_IP_S", 0.2)
    (fake_ip / "set").write_text("exec sleep 60")
    with pytest.raises(LinkError, match="did not end within"):
        can_link.restart("can0")


def test_ip_is_needed_only_where_something_is_to_be_set_up(fake_ip: Path) -> None:
    (fake_ip / "ip").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    assert can_link.prepare(socketcan()) is None
    with pytest.raises(LinkError, match="failed: broken"):
        can_link.prepare(socketcan(bitrate=500_000))


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"data_bitrate": 2_000_000, "bitrate": 1}, "data_bitrate", "is of CAN FD; set fd: true"),
        ({"data_bitrate": 2_000_000, "fd": True}, "data_bitrate", "needs bitrate"),
        ({"sample_point": 0.8}, "sample_point", "needs bitrate"),
        ({"sample_point": 87.5, "bitrate": 1}, "sample_point", "less than 1"),
        ({"interface": "pcan", "sample_point": 0.8, "bitrate": 1}, "sample_point", "socketcan only"),
        ({"interface": "pcan", "restart_ms": 100}, "restart_ms", "use bus_off"),
        ({"restart_ms": 100, "bus_off": {"recover": "auto"}}, "restart_ms", "both given"),
        ({"interface": "vector", "listen_only": True}, "listen_only", "cannot keep vector silent"),
    ],
)
def test_settings_that_do_not_go_together_name_their_field(settings: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CanConfig.model_validate({"interface": "socketcan", "channel": "can0"} | settings)
    [error] = refused.value.errors()
    assert error["loc"] == (field,)
    assert message in error["msg"]


def test_a_vendors_own_option_for_silence_is_trusted() -> None:
    CanConfig(interface="vector", channel="0", listen_only=True, options={"listen": True})
