"""A fake power supply behind a real TCP port, for tests.

It speaks the grammar of IEEE 488.2 (messages ended by a line feed, common commands, NR3 numbers, an error queue of
``number,"text"``) and the commands of SCPI-1999 volume 2 for OUTPut, SOURce, MEASure, INSTrument and SYSTem, as the
programming guides of two-channel laboratory supplies describe them. What it does not know is error -113, as there.
"""

import re
import socketserver
import threading
from dataclasses import dataclass, field


@dataclass
class Output:
    on: bool = False
    voltage: float = 0.0
    current: float = 1.0
    history: list[str] = field(default_factory=list)


class FakeScpiSupply:
    def __init__(self, *, highest: float = 32.0) -> None:
        self.outputs = {1: Output(), 2: Output()}
        self.selected = 1
        self.errors: list[str] = []
        self.heard: list[str] = []
        self.nonsense: dict[str, bytes | None] = {}
        """Answers instead of the sound ones, by query; None: no answer."""
        self.stuck = False
        """Whether the outputs do not switch any more."""
        self._highest = highest
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.port = f"socket://127.0.0.1:{self._server.server_address[1]}"

    def unplug(self) -> None:
        self._server.hang_up()

    def close(self) -> None:
        self._server.hang_up()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, message: str) -> bytes | None:
        self.heard.append(message)
        if message in self.nonsense:
            return self.nonsense[message]
        reply = self._reply(message.strip().upper())
        return None if reply is None else reply.encode() + b"\n"

    def _reply(self, message: str) -> str | None:
        output = self.outputs[self.selected]
        match message:
            case "*IDN?":
                return "Fake Instruments,FP-2,0001,1.0"
            case "*CLS":
                self.errors.clear()
            case "SYST:ERR?":
                return self.errors.pop(0) if self.errors else '0,"No error"'
            case "OUTP?":
                return str(int(output.on))
            case "OUTP ON" | "OUTP OFF":
                if not self.stuck:
                    output.on = message.endswith("ON")
                    output.history.append(message[5:].lower())
            case "MEAS:VOLT?":
                return f"{output.voltage if output.on else 0.0:+.6E}"
            case "MEAS:CURR?":
                return f"{0.25 if output.on else 0.0:+.6E}"
            case _:
                self._set(message, output)
        return None

    def _set(self, message: str, output: Output) -> None:
        found = re.fullmatch(r"(INST:NSEL|VOLT|CURR) (\S+)", message)
        if found is None:
            self.errors.append('-113,"Undefined header"')
        elif found[1] == "INST:NSEL":
            self.selected = int(found[2])
        elif found[1] == "VOLT":
            if float(found[2]) > self._highest:
                self.errors.append('-222,"Data out of range"')
                return
            output.voltage = float(found[2])
            output.history.append(f"{output.voltage:g}")
        else:
            output.current = float(found[2])


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, supply: FakeScpiSupply) -> None:
        self.supply = supply
        self._open: set[socketserver.StreamRequestHandler] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def hang_up(self) -> None:
        for handler in list(self._open):
            handler.connection.shutdown(2)

    def remember(self, handler: socketserver.StreamRequestHandler) -> None:
        self._open.add(handler)

    def forget(self, handler: socketserver.StreamRequestHandler) -> None:
        self._open.discard(handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.remember(self)
        try:
            for line in self.rfile:
                answer = self.server.supply.answer(line.decode().strip())
                if answer is not None:
                    self.wfile.write(answer)
        except OSError:
            pass  # hung up
        finally:
            self.server.forget(self)
