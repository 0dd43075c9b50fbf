"""A real agent on a loopback port, with simulated ECUs on virtual buses, and a key to sign lease tokens with."""

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import can
import grpc
from anyio.from_thread import BlockingPortal
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey

from bench_agent.client import BenchClient
from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc
from bench_agent.protocol.claims import ALGORITHM, LeaseClaims, Scope
from bench_agent.server import config
from bench_agent.server.agent import Agent
from bench_agent.server.certificate import AgentCertificate

ROOT = Path(__file__).parents[3]
NOBODY = "127.0.0.1:9"  # the discard port: no labd listens there
_numbers = itertools.count(1)

ECU = """
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, p2_star_ms: 500, s3_ms: 1500, s3_client_ms: 200, transit_ms: 1000}
dids:
  VIN: {did: 0xF190, type: ascii, length: 17, value: WVWZZZ1KZ6W000001}
  Code: {did: 0xF198, type: ascii, length: 4, value: "0000", write: {session: [extended], security: 1}}
  Voltage: {did: 0x0142, type: uint, length: 2, scale: 0.001, unit: V, value: 12.6}
dtcs: [{code: P0301, status: 0x2F}]
security: {1: {algorithm: xor, key: A5A5A5A5}}
cyclic:
  - message: EngineStatus
    period_ms: 20
    signals: {EngineSpeed: 800, EngineState: Running}
    follow: {EngineSpeed: {message: EngineControl, signal: TargetSpeed, rate_per_s: 20000}}
simulation: {service_delay_ms: {0x14: 120}}
"""


@dataclass
class Signer:
    """labd's key pair, as a test has it."""

    key: OKPKey = field(default_factory=lambda: OKPKey.generate_key("Ed25519", {"use": "sig", "kid": "k1"}))

    @property
    def jwks(self) -> str:
        return json.dumps(KeySet([self.key]).as_dict(private=False))

    def token(self, bench: str = "bench-1", epoch: int = 1, *, lasts_s: float = 600, **changes: Any) -> str:
        claims = LeaseClaims(f"lease-{epoch}", bench, epoch, "tester", Scope.HOLDER, int(time.time() + lasts_s))
        header = {"alg": ALGORITHM, "kid": self.key.kid}
        return jwt.encode(header, {**claims.to_jwt(), **changes}, self.key, algorithms=[ALGORITHM])


@dataclass
class AgentFile:
    """An agent's configuration on disk. `benches` may be changed before it is written."""

    folder: Path
    benches: list[dict[str, Any]]
    labd: str = NOBODY
    settings: dict[str, Any] = field(default_factory=dict)
    """Further ones of the agent itself."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def channel(self, bench: str = "bench-1") -> str:
        return next(str(b["can"][0]["channel"]) for b in self.benches if b["name"] == bench)

    def write(self) -> Path:
        path = self.folder / "agent.yaml"
        agent = {"name": "agent-1", "listen": "127.0.0.1:0", "labd": self.labd, "data_dir": "data"}
        agent |= self.settings
        path.write_text(json.dumps({"agent": agent, "benches": self.benches}))  # JSON is YAML
        return path


def bench_entry(name: str, *, ecus: bool = True, fd: bool = False) -> dict[str, Any]:
    bus = {"name": "powertrain", "interface": "virtual", "channel": f"test-{next(_numbers)}", "fd": fd}
    return {
        "name": name,
        "labels": {"platform": "meb"},
        "can": [bus | {"dbc": str(ROOT / "dbc/powertrain.dbc")}],
        "ecus": [{"file": "ecm.yaml", "bus": "powertrain", "simulated": True}] if ecus else [],
    }


@dataclass
class RunningAgent:
    """An agent on an asyncio loop in a thread of its own."""

    agent: Agent
    portal: BlockingPortal
    file: AgentFile

    @property
    def address(self) -> str:
        return self.agent.address

    def fence(self, epoch: int, reason: str = "released", bench: str = "bench-1") -> None:
        self.portal.call(self.agent.guard.gates[bench].fence, epoch, reason)

    def unshare(self, epoch: int, who: str, number: int, bench: str = "bench-1") -> None:
        async def unshared() -> None:
            await self.agent.guard.gates[bench].start_unshare(epoch, who, number)

        self.portal.call(unshared)

    def fenced(self, bench: str = "bench-1") -> int:
        return self.agent.guard.gates[bench].fenced

    def health(self, bench: str) -> str:
        return self.agent.benches[bench].health_reason

    def describe(self, bench: str) -> bench_pb2.BenchDescription:
        """What labd is told."""
        return self.agent.benches[bench].describe()

    def node(self, bench: str = "bench-1") -> can.BusABC:
        """Another node on the bench's bus."""
        return can.Bus(interface="virtual", channel=self.file.channel(bench))


StartAgent = Callable[..., RunningAgent]


async def make_agent(
    path: Path, certificate: AgentCertificate | None = None, on_revoked: Callable[[str], None] = lambda _reason: None
) -> Agent:
    return Agent(config.load(path), certificate, on_revoked)


OpenBench = Callable[..., BenchClient]


class FakeLabd(lab_pb2_grpc.LabServicer):
    """The agents' door of a labd: what agents say is in `heard`; `say` answers on the newest stream."""

    def __init__(self, signer: Signer, credentials: grpc.ServerCredentials | None = None) -> None:
        self.heard: queue.Queue[lab_pb2.AgentMessage] = queue.Queue()
        self.streams = 0
        self.welcome = lab_pb2.Welcome(jwks=signer.jwks)
        self.clock_offset_s = 0.0
        self._outbox: queue.Queue[lab_pb2.LabMessage | None] = queue.Queue()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        lab_pb2_grpc.add_LabServicer_to_server(self, self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def Attach(
        self, request_iterator: Iterator[lab_pb2.AgentMessage], context: grpc.ServicerContext
    ) -> Iterator[lab_pb2.LabMessage]:
        self.streams += 1
        outbox = self._outbox = queue.Queue()
        self.heard.put(next(request_iterator))
        yield self._stamped(lab_pb2.LabMessage(welcome=self.welcome))
        threading.Thread(target=self._listen, args=(request_iterator, outbox), daemon=True).start()
        yield from (self._stamped(message) for message in iter(outbox.get, None))

    def say(self, message: lab_pb2.LabMessage) -> None:
        self._outbox.put(message)

    def drop_stream(self) -> None:
        self._outbox.put(None)

    def wait(self, wanted: Callable[[lab_pb2.AgentMessage], bool], timeout_s: float = 10) -> lab_pb2.AgentMessage:
        """The next message that is wanted; others are skipped."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self.heard.get(timeout=max(deadline - time.monotonic(), 0.001))
            if wanted(message):
                return message

    def stop(self) -> None:
        self._outbox.put(None)
        self._server.stop(0).wait(5)

    def _listen(
        self, requests: Iterator[lab_pb2.AgentMessage], outbox: "queue.Queue[lab_pb2.LabMessage | None]"
    ) -> None:
        try:
            for message in requests:
                self.heard.put(message)
        except grpc.RpcError:
            pass  # the agent went away
        outbox.put(None)

    def _stamped(self, message: lab_pb2.LabMessage) -> lab_pb2.LabMessage:
        message.lab_time_ms = round((time.time() + self.clock_offset_s) * 1000)
        return message
