"""Addressing modes: what a description means on the wire, and which descriptions make no sense."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import can
import isotp
import pytest

from ecu_adapters.addressing import Addressing
from ecu_adapters.bus import BusHub
from ecu_adapters.description import IsoTp, load_ecu
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.yaml_file import ConfigError

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 30.0

NORMAL = Addressing(request_id=0x7E0, response_id=0x7E8, functional_id=0x7DF)
FIXED = Addressing(mode="normal_fixed", source=0xF1, target=0x10)
EXTENDED = Addressing(
    mode="extended", request_id=0x6F1, response_id=0x612, functional_id=0x6F1, source=0xF1, target=0x12,
    functional_target=0xDF,
)  # fmt: skip
MIXED_11 = Addressing(mode="mixed", request_id=0x710, response_id=0x718, functional_id=0x7DF, address_extension=0x99)
MIXED_29 = Addressing(mode="mixed", source=0xF1, target=0x10, address_extension=0x99)
MODE = isotp.AddressingMode

PEERS = [
    pytest.param(NORMAL, isotp.Address(MODE.Normal_11bits, txid=0x7E8, rxid=0x7E0), id="normal"),
    pytest.param(
        Addressing(request_id=0x18DA10F1, response_id=0x18DAF110, extended=True),
        isotp.Address(MODE.Normal_29bits, txid=0x18DAF110, rxid=0x18DA10F1),
        id="normal-29",
    ),
    pytest.param(
        FIXED, isotp.Address(MODE.NormalFixed_29bits, source_address=0x10, target_address=0xF1), id="normal-fixed"
    ),
    pytest.param(
        EXTENDED,
        isotp.Address(MODE.Extended_11bits, txid=0x612, rxid=0x6F1, source_address=0x12, target_address=0xF1),
        id="extended",
    ),
    pytest.param(
        Addressing(mode="extended", request_id=0x6F1, response_id=0x612, source=0xF1, target=0x12, extended=True),
        isotp.Address(MODE.Extended_29bits, txid=0x612, rxid=0x6F1, source_address=0x12, target_address=0xF1),
        id="extended-29",
    ),
    pytest.param(
        MIXED_11, isotp.Address(MODE.Mixed_11bits, txid=0x718, rxid=0x710, address_extension=0x99), id="mixed"
    ),
    pytest.param(
        MIXED_29,
        isotp.Address(MODE.Mixed_29bits, source_address=0x10, target_address=0xF1, address_extension=0x99),
        id="mixed-29",
    ),
]


@pytest.mark.parametrize("length", [1, 6, 7, 8, 20, 300])
@pytest.mark.parametrize(("addressing", "peer"), PEERS)
async def test_can_isotp_understands_us_and_we_it(
    hubs: Hubs, addressing: Addressing, peer: isotp.Address, length: int
) -> None:
    """The peer is an independent implementation, on a node of its own."""
    pdu = bytes(n & 0xFF for n in range(length))
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    with can.Bus(interface="virtual", channel=hubs[0].config.channel) as bus:
        stack = isotp.CanStack(bus, address=peer, params={"blocking_send": True})
        stack.start()
        tester = IsoTpEndpoint(
            hubs[0], IsoTpAddress.tester(addressing), IsoTp(), lambda pdu, _: arrived.put_nowait(pdu)
        )
        try:
            await tester.send(pdu, timeout_s=WAIT_S)
            assert bytes(await asyncio.to_thread(stack.recv, True, WAIT_S) or b"") == pdu
            await asyncio.to_thread(stack.send, pdu, send_timeout=WAIT_S)
            assert await asyncio.wait_for(arrived.get(), WAIT_S) == pdu
        finally:
            tester.close()
            stack.stop()


@pytest.mark.parametrize("addressing", [NORMAL, FIXED, EXTENDED, MIXED_11, MIXED_29])
async def test_requests_to_all_ecus_are_known_as_such(hubs: Hubs, addressing: Addressing) -> None:
    heard: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
    tester = IsoTpEndpoint(hubs[0], IsoTpAddress.tester(addressing), IsoTp(), lambda *_: None)
    ecu = IsoTpEndpoint(hubs[1], IsoTpAddress.ecu(addressing), IsoTp(), lambda *pdu: heard.put_nowait(pdu))
    tester.send_functional(b"\x3e\x80")
    await tester.send(b"\x3e\x00")
    assert await asyncio.wait_for(heard.get(), WAIT_S) == (b"\x3e\x80", True)
    assert await asyncio.wait_for(heard.get(), WAIT_S) == (b"\x3e\x00", False)
    tester.close()
    ecu.close()


async def test_ecus_that_share_ids_are_told_apart_by_their_address(hubs: Hubs) -> None:
    heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
    addresses = {target: EXTENDED.model_copy(update={"target": target}) for target in (0x12, 0x13)}

    def ecu(target: int) -> IsoTpEndpoint:
        address = IsoTpAddress.ecu(addresses[target])
        return IsoTpEndpoint(hubs[1], address, IsoTp(), lambda pdu, _: heard.put_nowait((target, pdu)))

    ecus = [ecu(target) for target in addresses]
    tester = IsoTpEndpoint(hubs[0], IsoTpAddress.tester(addresses[0x13]), IsoTp(), lambda *_: None)
    await tester.send(bytes(30), timeout_s=WAIT_S)
    assert await asyncio.wait_for(heard.get(), WAIT_S) == (0x13, bytes(30))
    assert heard.empty()
    for endpoint in (tester, *ecus):
        assert endpoint.stats.ignored == 0
        endpoint.close()


@pytest.mark.parametrize(
    ("addressing", "ids"),
    [
        (FIXED, (0x18DA10F1, 0x18DAF110, 0x18DB33F1)),
        (MIXED_29, (0x18CE10F1, 0x18CEF110, 0x18CD33F1)),
        (
            Addressing(mode="normal_fixed", source=0xF1, target=0x10, functional_target=0xFF),
            (0x18DA10F1, 0x18DAF110, 0x18DBFFF1),
        ),
    ],
)
def test_ids_are_made_of_addresses(addressing: Addressing, ids: tuple[int, int, int]) -> None:
    assert (addressing.request_id, addressing.response_id, addressing.functional_id) == ids
    assert addressing.extended
    assert addressing.request_can_id == ids[0] | 0x8000_0000


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("{mode: normal_fixed, source: 1}", "target: is missing"),
        ("{mode: normal_fixed, source: 1, target: 1}", "target: 0x01 is the source too"),
        (
            "{mode: normal_fixed, source: 1, target: 2, request_id: 3}",
            "request_id: has no meaning in mode normal_fixed",
        ),
        ("{mode: normal_fixed, source: 1, target: 256}", "target"),
        ("{mode: extended, request_id: 1, response_id: 2, source: 1}", "target: is missing"),
        (
            "{mode: extended, request_id: 1, response_id: 2, source: 1, target: 2, functional_id: 3}",
            "functional_target: is missing",
        ),
        (
            "{mode: extended, request_id: 1, response_id: 1, source: 2, target: 2}",
            "response_id: 0x1 is the request_id too",
        ),
        ("{mode: mixed, request_id: 1, response_id: 2}", "address_extension: is missing"),
        ("{mode: mixed, source: 1, target: 2, address_extension: 3, extended: true}", "extended: has no meaning"),
        ("{request_id: 1, response_id: 2, source: 1}", "source: has no meaning in mode normal"),
        ("{mode: fixed, request_id: 1, response_id: 2}", "mode"),
    ],
)
def test_mistakes_are_named_with_their_line(write: Callable[[str], Path], text: str, mistake: str) -> None:
    with pytest.raises(ConfigError, match=rf":2: addressing\.{mistake}"):
        load_ecu(write(f"name: ECM\naddressing: {text}\n"))
