"""The one thread that sends cyclic messages: on python-can's virtual bus, and against buses that misbehave."""

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import can
import pytest

from ecu_adapters.bus import BusError, BusHub, CanConfig
from ecu_adapters.cyclic.transmission import Transmission
from ecu_adapters.cyclic.transmitter import Transmitter

WAIT_S = 30.0


def frames(*data: int, can_id: int = 0x100) -> list[can.Message]:
    return [can.Message(arbitration_id=can_id, is_extended_id=False, data=[byte]) for byte in data]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.002)


def threads() -> int:
    return sum(thread.name == "cyclic" for thread in threading.enumerate())


class Witness:
    """A port that remembers what it was given, and may refuse or block."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refusal: BusError | Exception | None = None
        self.refusals = 0
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        self.entered.set()
        self.gate.wait(WAIT_S)
        if self.refusal is not None:
            self.refusals += 1
            raise self.refusal
        self.taken.append(message.data[0])
        return time.time()


def full(cause: Exception) -> BusError:
    error = BusError("transmit queue full")
    error.__cause__ = cause
    return error


@pytest.fixture
def transmitter() -> Iterator[Transmitter]:
    made = Transmitter()
    yield made
    assert len(made) == 0, "a test left messages running"
    eventually(lambda: threads() == 0)


def test_frames_go_round_on_a_real_bus_from_one_thread(transmitter: Transmitter) -> None:
    with (
        BusHub.open("bus", CanConfig(interface="virtual", channel="cyclic-1")) as hub,
        can.Bus(interface="virtual", channel="cyclic-1") as node,
    ):
        messages = [Transmission(f"m{n}", hub, frames(0, 1, 2, can_id=0x100 + n), 0.005) for n in range(20)]
        for message in messages:
            transmitter.add(message)
        assert threads() == 1
        seen: dict[int, list[int]] = {}
        while min((len(data) for data in seen.values()), default=0) < 7 or len(seen) < 20:
            received = node.recv(WAIT_S)
            assert received is not None
            seen.setdefault(received.arbitration_id, []).append(received.data[0])
        for message in messages:
            transmitter.remove(message)
        for data in seen.values():
            assert data == [index % 3 for index in range(len(data))]
        # Nothing comes any more: the bus is empty but for what was on its way.
        while node.recv(0) is not None:
            pass
        assert node.recv(0.05) is None


def test_values_change_without_disturbing_counter_or_count(transmitter: Transmitter) -> None:
    port = Witness()
    message = Transmission("m", port, frames(0, 1, 2, 3), 0.002)
    transmitter.add(message)
    eventually(lambda: len(port.taken) >= 6)
    transmitter.set_frames(message, frames(10, 11, 12, 13))
    eventually(lambda: len(port.taken) >= 20)
    transmitter.remove(message)
    assert [value % 10 for value in port.taken] == [index % 4 for index in range(len(port.taken))]
    changed = next(index for index, value in enumerate(port.taken) if value >= 10)
    assert changed >= 6
    assert all(value >= 10 for value in port.taken[changed:])


def test_a_frozen_counter_stands_still_and_goes_on(transmitter: Transmitter) -> None:
    port = Witness()
    message = Transmission("m", port, frames(*range(100)), 0.002)
    transmitter.add(message)
    eventually(lambda: len(port.taken) >= 3)
    transmitter.freeze(message, frozen=True)
    frozen_at = len(port.taken)
    eventually(lambda: len(port.taken) >= frozen_at + 5)
    transmitter.freeze(message, frozen=False)
    thawed_at = len(port.taken)
    eventually(lambda: len(port.taken) >= thawed_at + 3)
    transmitter.skip(message, 10)
    eventually(lambda: max(port.taken) - len(set(port.taken)) >= 9)
    transmitter.remove(message)
    assert len(set(port.taken[frozen_at + 1 : thawed_at])) == 1
    steps = [later - earlier for earlier, later in zip(port.taken, port.taken[1:], strict=False)]
    assert sorted(set(steps)) == [0, 1, 11]
    assert steps.count(11) == 1


def test_a_message_that_fails_is_counted_and_the_others_go_on(transmitter: Transmitter) -> None:
    bad, good = Witness(), Witness()
    bad.refusal = BusError("bus off")
    failing, sound = Transmission("bad", bad, frames(1), 0.002), Transmission("good", good, frames(2), 0.002)
    transmitter.add(failing)
    transmitter.add(sound)
    eventually(lambda: failing.stats.failed >= 5 and sound.stats.sent >= 5)
    bad.refusal = RuntimeError("a driver's own")
    eventually(lambda: failing.stats.error == "RuntimeError: a driver's own")
    bad.refusal = None
    eventually(lambda: failing.stats.sent >= 3)
    transmitter.remove(failing)
    transmitter.remove(sound)
    assert sound.stats.failed == 0


@pytest.mark.parametrize(
    "cause",
    [
        can.CanOperationError("no room", error_code=errno.ENOBUFS),
        OSError(errno.ENOBUFS, "no room"),
        BlockingIOError(errno.EAGAIN, "no"),
    ],
    ids=["python-can", "raw socket", "would block"],
)
def test_a_full_transmit_queue_is_tried_again_within_the_period(transmitter: Transmitter, cause: Exception) -> None:
    port, other = Witness(), Witness()
    port.refusal = full(cause)
    message, beside = Transmission("m", port, frames(1), 30.0), Transmission("n", other, frames(2), 0.005)
    transmitter.add(message)
    transmitter.add(beside)
    eventually(lambda: port.refusals >= 5 and beside.stats.sent >= 3)
    assert (message.stats.failed, message.stats.sent) == (0, 0)
    port.refusal = None
    eventually(lambda: message.stats.sent == 1)
    transmitter.remove(message)
    transmitter.remove(beside)


def test_nothing_is_sent_after_pause_even_if_the_driver_was_at_work(transmitter: Transmitter) -> None:
    port = Witness()
    message = Transmission("m", port, frames(1), 0.001)
    port.gate.clear()
    transmitter.add(message)
    assert port.entered.wait(WAIT_S)
    paused = threading.Event()

    def pause() -> None:
        transmitter.pause(message)
        paused.set()

    thread = threading.Thread(target=pause)
    thread.start()
    # The thread is inside send(), so pausing has to wait for it.
    assert not paused.wait(0.05)
    port.gate.set()
    assert paused.wait(WAIT_S)
    thread.join()
    taken = len(port.taken)
    time.sleep(0.02)
    assert len(port.taken) == taken
    transmitter.resume(message)
    eventually(lambda: len(port.taken) > taken)
    transmitter.remove(message)


def test_messages_sent_on_events_keep_their_gap(transmitter: Transmitter) -> None:
    port = Witness()
    message = Transmission("m", port, frames(1), None, gap_s=0.05)
    transmitter.add(message)
    started = time.monotonic()
    transmitter.send_now(message)
    eventually(lambda: len(port.taken) == 1)
    for _ in range(5):
        transmitter.send_now(message)
    eventually(lambda: len(port.taken) == 2)
    assert time.monotonic() - started >= 0.05
    transmitter.pause(message)
    transmitter.send_now(message)
    assert message.due_s is None
    transmitter.remove(message)


def test_periods_missed_behind_a_slow_bus_are_counted(transmitter: Transmitter) -> None:
    port = Witness()
    message = Transmission("m", port, frames(1), 0.002)
    port.gate.clear()
    transmitter.add(message)
    time.sleep(0.05)
    port.gate.set()
    eventually(lambda: message.stats.late >= 20 and message.stats.sent >= 3)
    transmitter.remove(message)


class FakeKernel:
    """Takes rows of frames, and sends as many as it is told to."""

    def __init__(self) -> None:
        self.able = True
        self.error: BusError | None = None
        self.jobs: list[FakeJob] = []

    def __call__(self, row: Sequence[can.Message], period_s: float) -> "FakeJob | None":
        if self.error is not None:
            raise self.error
        if self.able:
            self.jobs.append(FakeJob([frame.data[0] for frame in row], period_s))
            return self.jobs[-1]
        return None


class FakeJob:
    def __init__(self, row: list[int], period_s: float) -> None:
        self.row, self.period_s = row, period_s
        self.sent = 1
        self.alive = True
        self.updates: list[tuple[list[int], float]] = []

    def update(self, row: Sequence[can.Message], period_s: float) -> bool:
        if len(row) != len(self.row):
            return False
        self.updates.append(([frame.data[0] for frame in row], period_s))
        return True

    def stop(self) -> None:
        self.alive = False


def test_the_kernel_sends_what_it_can_and_the_counter_goes_on(transmitter: Transmitter) -> None:
    port, kernel = Witness(), FakeKernel()
    message = Transmission("m", port, frames(0, 1, 2, 3), 0.01, kernel=kernel)
    transmitter.add(message)
    eventually(lambda: message.in_kernel)
    (job,) = kernel.jobs
    assert (job.row, job.period_s, port.taken) == ([0, 1, 2, 3], 0.01, [])
    job.sent = 6
    assert message.stats.sent == 6
    transmitter.pause(message)
    assert not job.alive
    transmitter.resume(message)
    eventually(lambda: message.in_kernel)
    assert kernel.jobs[1].row == [2, 3, 0, 1], "the next counter value comes first"
    transmitter.set_frames(message, frames(10, 11, 12, 13))
    transmitter.set_period(message, 0.02)
    assert kernel.jobs[1].updates == [([12, 13, 10, 11], 0.01), ([12, 13, 10, 11], 0.02)]
    transmitter.remove(message)
    assert (kernel.jobs[1].alive, message.stats.sent, port.taken) == (False, 7, [])


def test_a_frozen_counter_is_the_threads_business_and_sound_again_the_kernels(transmitter: Transmitter) -> None:
    port, kernel = Witness(), FakeKernel()
    message = Transmission("m", port, frames(0, 1, 2, 3), 0.005, kernel=kernel)
    transmitter.add(message)
    eventually(lambda: message.in_kernel)
    kernel.jobs[0].sent = 3
    transmitter.freeze(message, frozen=True)
    eventually(lambda: len(port.taken) > 3)
    assert set(port.taken) == {2}, "the last that the kernel has sent"
    transmitter.freeze(message, frozen=False)
    eventually(lambda: len(kernel.jobs) == 2)
    assert kernel.jobs[1].row == [3, 0, 1, 2]
    transmitter.skip(message, 2)
    eventually(lambda: len(kernel.jobs) == 3)
    assert port.taken[-1] == 2, "3 was the kernel's; 0 and 1 are left out"
    assert kernel.jobs[2].row == [3, 0, 1, 2]
    transmitter.set_frames(message, frames(5, 6))
    eventually(lambda: len(kernel.jobs) == 4)
    transmitter.remove(message)
    assert message.stats.failed == 0


@pytest.mark.parametrize("how", ["unable", "refuses"])
def test_the_thread_sends_what_the_kernel_cannot(transmitter: Transmitter, how: str) -> None:
    port, kernel = Witness(), FakeKernel()
    kernel.able = False
    kernel.error = BusError("no broadcast manager") if how == "refuses" else None
    message = Transmission("m", port, frames(0, 1), 0.002, kernel=kernel)
    transmitter.add(message)
    eventually(lambda: len(port.taken) > 5)
    transmitter.remove(message)
    assert (message.in_kernel, message.stats.failed) == (False, 0)


@pytest.mark.parametrize("how", ["dead", "silent"])
def test_the_thread_takes_over_when_the_kernel_ceases(transmitter: Transmitter, how: str) -> None:
    port, kernel = Witness(), FakeKernel()
    message = Transmission("m", port, frames(0, 1, 2, 3), 0.05, kernel=kernel)
    transmitter.add(message)
    eventually(lambda: message.in_kernel)
    kernel.jobs[0].alive = how != "dead"
    eventually(lambda: len(port.taken) >= 2)
    transmitter.remove(message)
    assert port.taken[:2] == [1, 2], "behind what the kernel has sent"
    assert message.stats.error == "the kernel's frames did not reach the bus"
    assert len(kernel.jobs) == 1
