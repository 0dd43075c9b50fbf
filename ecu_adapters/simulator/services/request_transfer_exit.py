"""RequestTransferExit (0x37): ends a complete transfer, after comparing its CRC where the description asks for it."""

import zlib

from ecu_adapters.simulator.files import FileTransfer
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.rules import Call, Rule, Service
from ecu_adapters.simulator.transfer import MemoryTransfer

_SOURCE = "ISO 14229-1:2020, 14.6"


def _takes_crc(call: Call) -> bool:
    transfer = call.state.transfer
    return call.state.ecu.memory.exit_crc and isinstance(transfer, MemoryTransfer) and transfer.incoming


def _unfinished(call: Call) -> bool:
    transfer = call.state.transfer
    return transfer is None or transfer.left > 0


def _wrong_crc(call: Call) -> bool:
    transfer = call.state.transfer
    if transfer is None or not _takes_crc(call):
        return False
    return zlib.crc32(transfer.moved) != int.from_bytes(call.pdu[1:], "big")


def _act(call: Call) -> bytes:
    transfer, call.state.transfer = call.state.transfer, None
    if isinstance(transfer, MemoryTransfer) and transfer.incoming:
        call.state.downloaded = Range(transfer.where.address, transfer.where.size)
    if isinstance(transfer, FileTransfer):
        transfer.finish()
    return b""


SERVICE = Service(
    0x37,
    _act,
    offered=lambda ecu: bool(ecu.memory.regions) or ecu.files is not None,
    outside_default=True,
    rules=(
        Rule(0x24, "no transfer is in work, or it is not complete", _SOURCE, _unfinished),
        Rule(
            0x31,
            "the parameter is not what this ECU takes",
            _SOURCE,
            lambda call: len(call.pdu) != (5 if _takes_crc(call) else 1),
        ),
        Rule(0x72, "the CRC is not that of the data", _SOURCE, _wrong_crc),
    ),
    commits=True,
)
