"""udsoncan over can-isotp flashing the simulated ECU, in one process on python-can's virtual bus (CAN FD).

A worker: each line on stdin asks for one flashing; the answer is its time in s. Arguments: the stack of can-isotp
(``CanStack`` or ``NotifierBasedCanStack``), the ECU's description, and the image.
"""

import asyncio
import sys
import threading
import time
import zlib
from contextlib import ExitStack
from pathlib import Path

import can
import isotp
import udsoncan
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.simulator import SimulatedEcu

CHANNEL = "flash-baseline"
_HEADER = 2


def start_ecu(description: EcuDescription) -> None:
    """The ECU at its own end of the bus, on a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def start() -> SimulatedEcu:
        hub = BusHub.open("ecu", CanConfig(interface="virtual", channel=CHANNEL, fd=True))
        ecu = SimulatedEcu(description, hub)
        await ecu.start()
        return ecu

    asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=10)


def flash(client: Client, description: EcuDescription, image: bytes) -> None:
    """The same steps as `ecu_adapters.flash.flasher`; the ECU compares the CRC at the end."""
    address = next(iter(description.memory.regions.values())).address
    place = udsoncan.MemoryLocation(address, len(image), address_format=32, memorysize_format=32)
    client.change_session(2)
    client.start_routine(0xFF00, address.to_bytes(4, "big") + len(image).to_bytes(4, "big"))
    granted = client.request_download(place)
    assert granted is not None
    payload = granted.service_data.max_length - _HEADER
    for number, at in enumerate(range(0, len(image), payload), start=1):
        client.transfer_data(number & 0xFF, image[at : at + payload])
    client.request_transfer_exit(zlib.crc32(image).to_bytes(4, "big"))


def main() -> None:
    """Serves until stdin ends."""
    stack_name, ecu_file, image_file = sys.argv[1:]
    description, image = load_ecu(ecu_file), Path(image_file).read_bytes()
    start_ecu(description)
    address = isotp.Address(isotp.AddressingMode.Normal_11bits, rxid=0x7E8, txid=0x7E0)
    # Without blocking_send, P2 would begin before the block is on the bus.
    params = {"can_fd": True, "bitrate_switch": True, "tx_data_length": 64, "blocksize": 0, "blocking_send": True}
    with ExitStack() as stack:
        bus = stack.enter_context(can.Bus(interface="virtual", channel=CHANNEL))
        transport: isotp.CanStack | isotp.NotifierBasedCanStack
        if stack_name == "NotifierBasedCanStack":
            notifier = can.Notifier(bus, [])
            stack.callback(notifier.stop)
            transport = isotp.NotifierBasedCanStack(bus, notifier, address=address, params=params)
        else:
            transport = isotp.CanStack(bus, address=address, params=params)
        configuration = udsoncan.configs.default_client_config.copy()
        # Its own limits would end a flashing on a busy machine: 5 s for the sum of all 0x78 waits above all.
        configuration["request_timeout"] = None  # type: ignore[typeddict-item]  # its documentation allows it
        configuration["p2_timeout"] = configuration["p2_star_timeout"] = 10
        configuration["use_server_timing"] = False
        client = stack.enter_context(Client(PythonIsoTpConnection(transport), config=configuration))
        for _ in sys.stdin:
            started = time.perf_counter()
            flash(client, description, image)
            sys.stdout.write(f"{time.perf_counter() - started}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
