"""The module j1939: parameter groups on a bus, sent, asked for and awaited."""

from typing import TYPE_CHECKING, Any

from scenarios import durations
from scenarios.bindings.can import condition_of, shown
from scenarios.bindings.context import Context, wait
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import J1939Client, J1939Expectation, J1939Message


class _Node:
    """A node as one object of the script sees it."""

    def __init__(self, client: "J1939Client") -> None:
        self.client = client
        self.met_ns: dict[str | int, int] = {}

    @property
    def title(self) -> str:
        return f"{self.client.bus} 0x{self.client.address:02X}"


class J1939Bindings:
    """Functions of the module j1939."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes: list[_Node] = []
        self._sent_ns: dict[str, int] = {}
        """The latest send or request of any node of the script, by bus."""

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (
            self.j1939_open,
            self.j1939_send,
            self.j1939_request,
            self.j1939_expect,
            self.j1939_state,
            self.j1939_close,
        )

    def j1939_open(self, bus: int, encoded: str) -> int:
        """Puts a node on a bus. Returns its number."""
        chosen = dict(from_json(encoded) or {})
        if "bam_spacing" in chosen:
            chosen["bam_spacing_s"] = wait(chosen.pop("bam_spacing"), "bam_spacing")
        if chosen.get("name", 0) < 0:
            chosen["name"] += 1 << 64  # Lua's integers are signed
        answers = {pgn: from_hex(str(data), f"the answer for PGN 0x{pgn:04X}") for pgn, data in chosen.pop("answers")}
        client = self._context.buses[bus]
        with self._context.bench_faults():
            node = _Node(client.j1939(chosen.pop("address"), answers=answers, **chosen))
        self._nodes.append(node)
        self._context.record.step(f"{node.title}: J1939 node opened")
        return len(self._nodes) - 1

    def j1939_send(self, number: int, what: int | str, content: object, encoded: str) -> dict[str, object]:
        """Sends a PGN with data, or a message with signals."""
        node, chosen = self._nodes[number], dict(from_json(encoded) or {})
        values: Any = from_hex(str(content), "data") if isinstance(what, int) else dict(from_json(str(content)) or {})
        timeout_s = wait(chosen.get("timeout", 30))
        with self._context.bench_faults():
            sent = node.client.send(
                what,
                values,
                chosen.get("to"),
                priority=chosen.get("priority"),
                force=chosen.get("force", False),
                timeout_s=self._context.bounded(timeout_s),
            )
        self._sent_ns[node.client.bus] = sent.timestamp_ns
        self._context.record.step(f"{node.title} <- {sent}")
        return _told(sent)

    def j1939_request(self, number: int, what: int | str, encoded: str) -> dict[str, object]:
        """Asks for a PGN."""
        node, chosen = self._nodes[number], dict(from_json(encoded) or {})
        timeout_s = wait(chosen.get("timeout", 1.25))
        with self._context.bench_faults():
            answer = node.client.request(what, chosen.get("to"), self._context.bounded(timeout_s))
        # The answer is taken: an expect looks at what came after it.
        self._sent_ns[node.client.bus] = answer.timestamp_ns
        self._context.record.step(f"{node.title} -> {answer}")
        return _told(answer)

    def j1939_expect(self, number: int, what: int | str, encoded: str) -> dict[str, object]:
        """Waits for a message."""
        node, chosen = self._nodes[number], dict(from_json(encoded) or {})
        timeout_s = wait(chosen.get("timeout", 1))
        data = from_hex(str(chosen["data"]), "data") if "data" in chosen else None
        wanted = [condition_of(*condition) for condition in chosen.get("conditions") or []]
        with self._context.bench_faults():
            found = node.client.expect(
                what,
                wanted,
                self._context.bounded(timeout_s),
                source=chosen.get("from"),
                destination=chosen.get("to"),
                data=data,
                since_ns=max(self._sent_ns.get(node.client.bus, 0), node.met_ns.get(what, 0)),
            )
        self._context.record.check()
        if not found.met or found.message is None:
            self._context.look_at_clock()
            why = _unmet(what, timeout_s, found)
            self._context.record.step(f"{node.title}: {why}")
            raise ScenarioFault("check", f"{node.title}: {why}", seen=found.seen, unmet=list(found.unmet))
        node.met_ns[what] = found.message.timestamp_ns
        signals = f" {shown(found.message.signals)}" if found.message.signals else ""
        self._context.record.step(f"{node.title} -> {found.message}{signals}")
        return _told(found.message)

    def j1939_state(self, number: int) -> dict[str, object]:
        """How a node is."""
        with self._context.bench_faults():
            state = self._nodes[number].client.state()
        lost = [
            {"pgn": lost.pgn, "source": lost.source, "kind": lost.error.kind, "message": str(lost.error)}
            for lost in state.lost
        ]
        counters = ("address", "sent", "received", "send_errors", "receive_errors", "ignored", "dropped", "conflicts")
        return {name: getattr(state, name) for name in (*counters, "fault")} | {"lost": lost}

    def j1939_close(self, number: int) -> None:
        """Takes a node off its bus."""
        with self._context.bench_faults():
            self._nodes[number].client.close()


def _told(message: "J1939Message") -> dict[str, object]:
    return {
        "pgn": message.pgn,
        "source": message.source,
        "destination": message.destination,
        "priority": message.priority,
        "data": to_hex(message.data),
        "time": message.timestamp_ns / 1e9,
        "name": message.name or None,
        "signals": message.signals,
    }


def _unmet(what: int | str, timeout_s: float, found: "J1939Expectation") -> str:
    name = f"PGN 0x{what:04X}" if isinstance(what, int) else what
    within = f"within {durations.show(timeout_s)}"
    lost = "".join(f"; one from 0x{lost.source:02X} was lost: {lost.error}" for lost in found.lost[-1:])
    if not found.seen:
        return f"no {name} was seen {within}{lost}"
    return f"no {name} met the conditions {within}; {found.seen} seen, the last: {'; '.join(found.unmet)}{lost}"
