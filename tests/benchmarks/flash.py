"""A flashing over a simulated CAN FD bus, through lease, gRPC and agent, beside udsoncan with can-isotp.

Both write the same image into the same simulated ECU, erased before and compared by its CRC after. The bus is
python-can's ``virtual`` one: of those that need no CAN in the kernel it alone loses nothing (udp_multicast drops frames
at this rate), and both sides have it in their own process, so that the stacks are compared and not the bus. Neither is
slowed down by a bit rate. Ours also traces every frame, as the agent does for every lease, while udsoncan's client has
the image at hand and need not send it anywhere.

``LABD_BENCH_FLASH_KIB`` makes the image smaller, to see that it works; the figure is that of 4,096 KiB.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench_agent.client import BenchClient
from deploy.demo.lab import running_lab
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 3
SIZE = int(os.environ.get("LABD_BENCH_FLASH_KIB", "4096")) * 1024
ADDRESS = 0x0800_0000
STACKS = ("CanStack", "NotifierBasedCanStack")
AGENT = """
agent: {name: flash, listen: "127.0.0.1:0", labd: "127.0.0.1:9", data_dir: data}
benches:
  - name: flash
    labels: {}
    can: [{name: bus, interface: virtual, channel: flash, fd: true}]
    ecus: [{file: ecm.yaml, bus: bus, simulated: true}]
"""
ECU = f"""
name: ECM
addressing: {{request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}}
timing: {{transit_ms: 5000}}
isotp: {{fd: true}}
memory:
  max_block: 4095
  exit_crc: true
  regions: {{app: {{address: {ADDRESS}, size: {SIZE}, write: {{session: [programming]}}}}}}
routines:
  Erase:
    id: 0xFF00
    action: erase
    start:
      options: [{{name: address, type: uint, length: 4}}, {{name: size, type: uint, length: 4}}]
      status: [{{name: result, type: uint, length: 1}}]
flash: {{session: programming, erase: Erase}}
"""


@contextmanager
def _baseline(stack_name: str, ecu: Path, image: Path) -> Iterator[Callable[[], list[float]]]:
    """Flashes once, in the worker with that ISO-TP stack (flash_baseline.py)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.flash_baseline", stack_name, str(ecu), str(image)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def flash() -> list[float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return [float(process.stdout.readline())]

    try:
        yield flash
    finally:
        process.kill()
        process.wait()


def measure(folder: Path) -> list[Figure]:
    """Against whichever of can-isotp's two stacks is the faster one here."""
    configuration, ecu_file, image = folder / "agent.yaml", folder / "ecm.yaml", folder / "app.bin"
    configuration.write_text(AGENT)
    ecu_file.write_text(ECU)
    image.write_bytes(random.Random(1).randbytes(SIZE))  # noqa: S311 - no secret
    figures = []
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(folder, configuration))
        lab.wait_for_benches("flash")
        client = stack.enter_context(lab.client())
        lease = client.create_lease(selector="name=flash", holder="bench", duration_s=3600, ttl_s=1800)
        stack.callback(client.release, lease["id"])
        lab.wait_for("grant", lambda: client.lease(lease["id"])["state"] == "GRANTED")
        lease = client.lease(lease["id"])
        bench = stack.enter_context(BenchClient(str(lease["address"]), "flash", str(lease["token"])))

        def ours() -> list[float]:
            started = time.perf_counter()
            bench.ecu("ECM").flash(image, address=ADDRESS)
            return [time.perf_counter() - started]

        for name in STACKS:
            with _baseline(name, ecu_file, image) as theirs:
                samples, plain = interleave(ROUNDS, ours, theirs)
            figures.append(
                Figure(f"flash of {SIZE >> 10} KiB, CAN FD", "s", samples, f"udsoncan, {name}", plain,
                       "ratio", "at most", 1.0)
            )  # fmt: skip
    return [max(figures, key=lambda figure: figure.ratio)]
