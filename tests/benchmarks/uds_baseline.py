"""Plain local udsoncan against the demo's simulated ECU, in one process on a virtual bus.

A worker: each line on stdin is a number of reads to do; the answer is one line of JSON, their times in ms. It is told
which stack of can-isotp to use, ``CanStack`` or ``NotifierBasedCanStack``.
"""

import asyncio
import json
import sys
import threading
import time
from contextlib import ExitStack

import can
import isotp
import udsoncan
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from deploy.demo.lab import ROOT
from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.dbc import Database
from ecu_adapters.description import load_ecu
from ecu_adapters.simulator import SimulatedEcu

CHANNEL = "uds-baseline"
VIN = 0xF190


def start_ecu() -> None:
    """The same ECU as on the demo's first bench, on a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def start() -> SimulatedEcu:
        hub = BusHub.open("ecu", CanConfig(interface="virtual", channel=CHANNEL))
        ecu = SimulatedEcu(load_ecu(ROOT / "deploy/demo/ecm.yaml"), hub, Database.load(ROOT / "dbc/powertrain.dbc"))
        await ecu.start()
        return ecu

    asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=10)


def main() -> None:
    """Serves until stdin ends."""
    start_ecu()
    address = isotp.Address(isotp.AddressingMode.Normal_11bits, rxid=0x7E8, txid=0x7E0)
    with ExitStack() as stack:
        bus = stack.enter_context(can.Bus(interface="virtual", channel=CHANNEL))
        transport: isotp.CanStack | isotp.NotifierBasedCanStack
        if sys.argv[1] == "NotifierBasedCanStack":
            notifier = can.Notifier(bus, [])
            stack.callback(notifier.stop)
            transport = isotp.NotifierBasedCanStack(bus, notifier, address=address)
        else:
            transport = isotp.CanStack(bus, address=address)
        configuration = udsoncan.configs.default_client_config.copy()
        configuration["data_identifiers"] = {VIN: udsoncan.AsciiCodec(17)}
        client = stack.enter_context(Client(PythonIsoTpConnection(transport), config=configuration))
        for line in sys.stdin:
            samples = []
            for _ in range(int(line)):
                started = time.perf_counter()
                client.read_data_by_identifier(VIN)
                samples.append((time.perf_counter() - started) * 1e3)
            sys.stdout.write(json.dumps(samples) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
