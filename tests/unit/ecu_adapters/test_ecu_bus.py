"""The bus hub: every listener gets every frame, and nothing dies silently."""

import asyncio
import errno
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import can
import pytest

from ecu_adapters.bus import BusError, BusHub, BusNode, BusPort, CanConfig, FrameError
from ecu_adapters.frame_records import row
from ecu_adapters.inbox import Inbox

Hubs = tuple[BusHub, BusHub]
WAIT_S = 30.0


class ScriptedBus(can.BusABC):
    """A driver that does as the test says."""

    def __init__(self) -> None:
        super().__init__("scripted")
        self.incoming: queue.Queue[can.Message | Exception] = queue.Queue()
        self.refusals: list[Exception] = []
        self.sent: list[can.Message] = []
        self.failure: tuple[int, Exception] | None = None

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        try:
            item = self.incoming.get(timeout=timeout)
        except queue.Empty:
            return None, False
        if isinstance(item, Exception):
            raise item
        return item, False

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        if self.failure is not None and len(self.sent) >= self.failure[0]:
            raise self.failure[1]
        self.sent.append(msg)

    def fail_after(self, frames: int, failure: Exception) -> None:
        """Takes so many in all."""
        self.failure = frames, failure


@pytest.fixture
def scripted() -> Iterator[tuple[ScriptedBus, BusHub]]:
    bus = ScriptedBus()
    with BusHub("powertrain", bus, CanConfig(interface="vector", channel="0")) as hub:
        yield bus, hub


def _frame(can_id: int = 0x123, data: bytes = b"\x01", *, extended: bool = False, fd: bool = False) -> can.Message:
    return can.Message(arbitration_id=can_id, is_extended_id=extended, data=data, is_fd=fd)


def _collect(hub: BusHub, ids: set[int] | None = None) -> "queue.Queue[can.Message]":
    frames: queue.Queue[can.Message] = queue.Queue()
    if ids is None:

        def each(burst: Sequence[can.Message]) -> None:
            for frame in burst:
                frames.put(frame)

        hub.tap(each)
    else:
        hub.subscribe(frames.put, ids=ids)
    return frames


def test_every_listener_gets_every_frame_with_the_time_of_day(hubs: Hubs) -> None:
    sender, receiver = hubs
    first, second = _collect(receiver), _collect(receiver)
    before = time.time()
    stamp = sender.send(_frame())
    for frames in (first, second):
        frame = frames.get(timeout=WAIT_S)
        assert (frame.arbitration_id, bytes(frame.data), frame.is_rx) == (0x123, b"\x01", True)
        assert before - 0.01 <= frame.timestamp <= time.time() + 0.01
    assert before <= stamp <= time.time()
    assert (sender.stats.sent, receiver.stats.received) == (1, 1)


def test_own_frames_are_delivered_as_such_and_leave_the_callers_message_alone(hubs: Hubs) -> None:
    hub, _ = hubs
    frames = _collect(hub)
    message = _frame()
    hub.send(message)
    own = frames.get(timeout=WAIT_S)
    assert own.is_rx is False
    assert own.timestamp > 0
    message.data[0] = 0xFF
    assert message.is_rx is True
    assert bytes(own.data) == b"\x01"


def test_ids_tell_11_bit_from_29_bit_identifiers(hubs: Hubs) -> None:
    sender, receiver = hubs
    standard, extended, everything = _collect(receiver, {0x123}), _collect(receiver, {0x8000_0123}), _collect(receiver)
    sender.send(_frame(0x123))
    sender.send(_frame(0x123, extended=True))
    sender.send(_frame(0x124))
    assert [everything.get(timeout=WAIT_S).arbitration_id for _ in range(3)] == [0x123, 0x123, 0x124]
    assert not standard.get(timeout=WAIT_S).is_extended_id
    assert extended.get(timeout=WAIT_S).is_extended_id
    assert standard.empty()
    assert extended.empty()


def test_who_subscribes_once_a_frame_was_shown_does_not_get_it_as_a_new_one(
    scripted: tuple[ScriptedBus, BusHub],
) -> None:
    bus, hub = scripted
    late: queue.Queue[can.Message] = queue.Queue()
    early: queue.Queue[can.Message] = queue.Queue()

    def subscribe_late(_: Sequence[can.Message]) -> None:
        if not joined.is_set():
            hub.subscribe(late.put, ids=[0x77])
        joined.set()

    joined = threading.Event()
    hub.tap(subscribe_late)
    hub.subscribe(early.put, ids=[0x77])
    bus.incoming.put(_frame(0x77, b"\x01"))
    assert early.get(timeout=WAIT_S).data == b"\x01"
    bus.incoming.put(_frame(0x77, b"\x02"))
    assert late.get(timeout=WAIT_S).data == b"\x02"


def test_a_closed_subscription_gets_nothing_more(hubs: Hubs) -> None:
    sender, receiver = hubs
    gone: list[can.Message] = []
    with receiver.tap(gone.extend), receiver.subscribe(gone.append, ids={0x123}):
        pass
    frames = _collect(receiver)
    sender.send(_frame())
    frames.get(timeout=WAIT_S)
    assert gone == []


def test_a_listener_that_raises_is_counted_and_the_others_live_on(hubs: Hubs) -> None:
    sender, receiver = hubs

    def broken(_frame: can.Message) -> None:
        raise ValueError("broken listener")

    receiver.subscribe(broken, ids={0x123})
    frames = _collect(receiver, {0x123})
    for _ in range(5):
        sender.send(_frame())
    for _ in range(5):
        frames.get(timeout=WAIT_S)
    assert receiver.stats.listener_errors == 5
    assert receiver.error is None


def test_the_last_frames_of_both_directions_are_remembered() -> None:
    config = CanConfig(interface="virtual", channel="remembered")
    with BusHub.open("a", config, remember=3) as a, BusHub.open("b", config) as b:
        got = _collect(a)
        for number in range(4):
            a.send(_frame(data=bytes((number,))))
        b.send(_frame(0x200))
        while not got.get(timeout=WAIT_S).is_rx:
            pass
        assert [(f.arbitration_id, bytes(f.data), f.is_rx) for f in a.recent()] == [
            (0x123, b"\x02", False),
            (0x123, b"\x03", False),
            (0x200, b"\x01", True),
        ]
        last = a.recent()[-2].timestamp
        assert all(frame.timestamp > last for frame in a.recent(last))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_frame(0x800), "arbitration ID 0x800 is above 0x7FF"),
        (_frame(data=bytes(9)), "data has 9 bytes; a classic CAN frame takes at most 8"),
        (_frame(fd=True), "is classic CAN; the frame is CAN FD"),
    ],
)
def test_frames_that_cannot_be_are_refused(hubs: Hubs, frame: can.Message, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        hubs[0].send(frame)


def test_fd_frames_on_an_fd_bus(fd_hubs: Hubs) -> None:
    sender, receiver = fd_hubs
    frames = _collect(receiver)
    sender.send(_frame(data=bytes(64), fd=True))
    frame = frames.get(timeout=WAIT_S)
    assert (frame.is_fd, len(frame.data)) == (True, 64)
    with pytest.raises(FrameError, match="data has 9 bytes; CAN FD takes one of"):
        sender.send(_frame(data=bytes(9), fd=True))


@pytest.mark.parametrize(
    ("interface", "options", "reason"),
    [
        ("nonsense", {}, "'nonsense' not supported"),
        ("socketcan", {}, r"\(socketcan can-absent\) cannot be opened: .+"),
        ("socketcand", {}, "missing 2 required positional arguments: 'host' and 'port'"),
    ],
)
def test_a_bus_that_does_not_open_says_which_and_why(interface: str, options: dict[str, object], reason: str) -> None:
    config = CanConfig(interface=interface, channel="can-absent", options=options)
    with pytest.raises(BusError, match=reason) as caught:
        BusHub.open("powertrain", config)
    assert "powertrain" in str(caught.value)


def test_a_driver_that_fails_ends_the_reader_with_a_reason(scripted: tuple[ScriptedBus, BusHub]) -> None:
    bus, hub = scripted
    reasons: queue.Queue[str] = queue.Queue()
    hub.on_error = reasons.put
    bus.incoming.put(can.CanOperationError("network is down", errno.ENETDOWN))
    reason = reasons.get(timeout=WAIT_S)
    assert "network is down" in reason
    assert "powertrain" in reason
    assert hub.error == reason
    with pytest.raises(BusError, match="network is down"):
        hub.send(_frame())


def test_a_full_transmit_queue_is_retried_until_the_deadline(scripted: tuple[ScriptedBus, BusHub]) -> None:
    bus, hub = scripted
    full = can.CanOperationError("Failed to transmit: No buffer space available", errno.ENOBUFS)
    bus.refusals = [full, full]
    hub.send(_frame(), 1.0)
    assert (len(bus.sent), hub.stats.send_retries) == (1, 2)
    bus.refusals = [full] * 1000
    with pytest.raises(BusError, match="No buffer space"):
        hub.send(_frame(), 0.005)
    assert hub.stats.send_failed == 1


def test_other_send_errors_are_not_retried(scripted: tuple[ScriptedBus, BusHub]) -> None:
    bus, hub = scripted
    bus.refusals = [can.CanOperationError("bus off"), RuntimeError("driver bug")]
    with pytest.raises(BusError, match="bus off"):
        hub.send(_frame())
    with pytest.raises(BusError, match="driver bug"):
        hub.send(_frame())
    assert hub.error is None


def test_drivers_without_the_time_of_day_are_stamped(scripted: tuple[ScriptedBus, BusHub]) -> None:
    bus, hub = scripted
    frames = _collect(hub)
    bus.incoming.put(can.Message(arbitration_id=1, timestamp=12.5))
    assert abs(frames.get(timeout=WAIT_S).timestamp - time.time()) < WAIT_S


def test_error_frames_are_counted_and_reach_only_listeners_of_everything(scripted: tuple[ScriptedBus, BusHub]) -> None:
    bus, hub = scripted
    everything, some = _collect(hub), _collect(hub, {0})
    bus.incoming.put(can.Message(arbitration_id=0, is_extended_id=False, is_error_frame=True))
    assert everything.get(timeout=WAIT_S).is_error_frame
    bus.incoming.put(can.Message(arbitration_id=0, is_extended_id=False))
    assert not some.get(timeout=WAIT_S).is_error_frame
    assert hub.stats.error_frames == 1


def test_interfaces_that_echo_show_each_own_frame_once() -> None:
    bus = ScriptedBus()
    with BusHub("b", bus, CanConfig(interface="udp_multicast", channel="239.0.0.1")) as hub:
        frames = _collect(hub)
        hub.send(_frame())
        bus.incoming.put(_frame())  # the echo
        bus.incoming.put(_frame())  # somebody else's equal frame
        assert [frames.get(timeout=WAIT_S).is_rx for _ in range(2)] == [False, True]
        bus.incoming.put(_frame(0x124))
        assert frames.get(timeout=WAIT_S).arbitration_id == 0x124
        assert frames.empty()


def test_a_closed_hub_refuses_to_send_and_closes_only_once(hubs: Hubs) -> None:
    hub = hubs[0]
    hub.close()
    hub.close()
    with pytest.raises(BusError, match="the bus is closed"):
        hub.send(_frame())


def test_many_senders_at_once_lose_nothing(hubs: Hubs) -> None:
    sender, receiver = hubs
    frames = _collect(receiver)
    threads = [threading.Thread(target=lambda: [sender.send(_frame()) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(800):
        frames.get(timeout=WAIT_S)
    for thread in threads:
        thread.join(timeout=WAIT_S)
    assert sender.stats.sent == 800


@pytest.mark.anyio
async def test_an_inbox_wakes_the_loop_once_per_burst() -> None:
    loop = asyncio.get_running_loop()
    got: list[int] = []
    done = asyncio.Event()

    def take(item: int) -> None:
        got.append(item)
        if item == 99:
            done.set()

    inbox = Inbox(loop, take)
    wakes = 0
    original = loop.call_soon_threadsafe

    def counting(*args: object) -> asyncio.Handle:
        nonlocal wakes
        wakes += 1
        return original(*args)  # type: ignore[arg-type]

    loop.call_soon_threadsafe = counting  # type: ignore[method-assign, assignment]
    for number in range(50):
        inbox.put(number)
    assert wakes == 0  # the loop's own thread needs none

    def put_the_rest() -> None:
        for number in range(50, 100):
            inbox.put(number)

    inbox.drain()
    thread = threading.Thread(target=put_the_rest)
    thread.start()
    thread.join(WAIT_S)
    await asyncio.wait_for(done.wait(), WAIT_S)
    assert got == list(range(100))
    assert wakes == 1


@pytest.mark.anyio
async def test_a_full_inbox_drops_and_counts() -> None:
    got: list[int] = []
    inbox = Inbox(asyncio.get_running_loop(), got.append, bound=3)
    for number in range(5):
        inbox.put(number)
    inbox.drain()
    assert (got, inbox.dropped) == ([0, 1, 2], 2)
    inbox.close()
    inbox.put(9)
    inbox.drain()
    assert got == [0, 1, 2]


def test_closing_delivers_no_frame_that_was_never_on_the_bus() -> None:
    heard: list[can.Message] = []
    hub = BusHub.open("b", CanConfig(interface="virtual", channel="closing"))
    hub.tap(heard.extend)
    hub.close()
    assert heard == hub.recent() == []


def test_what_one_node_sends_the_others_receive_and_the_bus_carries(hubs: Hubs) -> None:
    hub, outside = hubs
    first, second = hub.node("first"), hub.node("second")
    heard: dict[str, list[bool]] = {"first": [], "second": [], "hub": [], "tap": []}
    first.subscribe(lambda frame: heard["first"].append(frame.is_rx), ids={0x123})
    second.subscribe(lambda frame: heard["second"].append(frame.is_rx), ids={0x123})
    hub.subscribe(lambda frame: heard["hub"].append(frame.is_rx), ids={0x123})
    second.tap(lambda burst: heard["tap"].extend(frame.is_rx for frame in burst))
    elsewhere = _collect(outside)
    first.send(_frame())  # delivered on this thread: no waiting below
    hub.send(_frame())
    assert heard == {"first": [False, True], "second": [True, True], "hub": [True, False], "tap": [True, True]}
    assert [frame.is_rx for frame in hub.recent()] == [True, False]
    assert [elsewhere.get(timeout=WAIT_S).is_rx for _ in range(2)] == [True, True]


def test_what_a_node_sends_together_is_own_to_it_alone(hubs: Hubs) -> None:
    hub, outside = hubs
    first, second = hub.node("first"), hub.node("second")
    heard: dict[str, list[tuple[int, bool]]] = {"first": [], "second": []}
    first.subscribe(lambda frame: heard["first"].append((frame.data[0], frame.is_rx)), ids={0x123})
    second.subscribe(lambda frame: heard["second"].append((frame.data[0], frame.is_rx)), ids={0x123})
    elsewhere = _collect(outside)
    taken = first.send_records(row(0x123, 0, [bytes((n,)) for n in range(3)]))
    assert (taken.error, len(taken.records)) == (None, 3)
    assert heard == {"first": [(n, False) for n in range(3)], "second": [(n, True) for n in range(3)]}
    assert [elsewhere.get(timeout=WAIT_S).data[0] for _ in range(3)] == [0, 1, 2]
    first.detach("the bus is down")
    assert "did not take the frame: the bus is down" in str(first.send_records(taken.records).error)


def test_a_driver_that_fails_among_many_frames_has_taken_those_before(scripted: tuple[ScriptedBus, BusHub]) -> None:
    bus, hub = scripted
    bus.fail_after(2, OSError(errno.EIO, "unplugged"))
    taken = hub.send_records(row(0x123, 0, [bytes((n,)) for n in range(5)]))
    assert [message.data[0] for message in bus.sent] == [0, 1]
    assert len(taken.records) == len(hub.recent()) == 2
    assert "unplugged" in str(taken.error)


def test_nodes_that_answer_each_other_do_not_nest(hubs: Hubs) -> None:
    hub = hubs[0]
    ping, pong = hub.node("ping"), hub.node("pong")
    depth = deepest = 0

    def answer(node: BusNode, can_id: int, frame: can.Message) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(depth, deepest)
        if frame.is_rx and frame.data[0] < 200:
            node.send(_frame(can_id, bytes((frame.data[0] + 1,))))
        depth -= 1

    ping.subscribe(lambda frame: answer(ping, 0x1, frame), ids={0x2})
    pong.subscribe(lambda frame: answer(pong, 0x2, frame), ids={0x1})
    ping.send(_frame(0x1, b"\x00"))
    assert [frame.data[0] for frame in hub.recent()] == list(range(201))
    assert deepest == 1


def test_every_listener_hears_frames_of_many_threads_in_one_order(hubs: Hubs) -> None:
    hub, outside = hubs
    ports: list[BusHub | BusNode] = [hub, *(hub.node(f"node-{number}") for number in range(3))]
    logs: list[list[bytes]] = [[] for _ in range(4)]
    done = threading.Semaphore(0)

    def log(number: int, burst: Sequence[can.Message]) -> None:
        logs[number] += [bytes(frame.data) for frame in burst]
        for _ in burst:
            done.release()

    for number, port in enumerate(ports):
        port.tap(partial(log, number))

    def send(port: BusPort, number: int) -> None:
        for count in range(200):
            port.send(_frame(data=bytes((number, count))))

    threads = [threading.Thread(target=send, args=(port, n)) for n, port in enumerate((*ports, outside))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=WAIT_S)
    for _ in range(4 * 5 * 200):
        assert done.acquire(timeout=WAIT_S)
    assert [bytes(frame.data) for frame in hub.recent()] == logs[0]
    assert logs[1:] == [logs[0]] * 3
    for number in range(5):
        assert [data[1] for data in logs[0] if data[0] == number] == list(range(200))


def test_a_node_outlives_its_hub() -> None:
    config = CanConfig(interface="virtual", channel="outlived")
    heard: list[int] = []
    with BusHub.open("first", config) as hub:
        node = hub.node("ECM")
        node.subscribe(lambda frame: heard.append(frame.arbitration_id), ids={0x1, 0x2, 0x3})
        hub.send(_frame(0x1))
    node.detach("the bus is down")
    with pytest.raises(BusError, match=r"'ECM' .* did not take the frame: the bus is down"):
        node.send(_frame(0x2))
    with BusHub.open("second", config) as hub:
        node.attach(hub)
        hub.send(_frame(0x3))
        assert node.send(_frame(0x4)) > 0
    assert heard == [0x1, 0x3]
