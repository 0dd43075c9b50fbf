"""The epochs of many benches on a slow disk."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench_agent.server import files
from bench_agent.server.epochs import EpochError, Epochs, EpochStore

DEADLINE_S = 20.0


class SlowDisk:
    """Takes the first write when it is let go, and all later ones at once."""

    def __init__(self, write: Callable[[Path, bytes], None]) -> None:
        self.write = write
        self.begun, self.go = threading.Event(), threading.Event()
        self.writes = 0
        self.full_from: int | None = None

    def replace(self, path: Path, content: bytes) -> None:
        self.writes += 1
        if self.writes == 1:
            self.begun.set()
            assert self.go.wait(DEADLINE_S)
        if self.full_from is not None and self.writes >= self.full_from:
            raise OSError(28, "No space left on device")
        self.write(path, content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    disk = SlowDisk(files.replace)
    monkeypatch.setattr(files, "replace", disk.replace)
    return disk


def _save(store: EpochStore, bench: str, epochs: Epochs) -> None:
    store.save(bench, epochs)
    stored = EpochStore(store._path).get(bench)  # another agent, after a power cut
    assert (stored.seen, stored.fenced) >= (epochs.seen, epochs.fenced)


def _wait_for(store: EpochStore, benches: int) -> None:
    """Until so many benches wait for the next write."""
    for _ in range(int(DEADLINE_S * 200)):
        if len(store._next.wanted) == benches:
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody waits")


def test_what_comes_while_the_disk_is_busy_is_written_together_and_durable(tmp_path: Path, disk: SlowDisk) -> None:
    store = EpochStore(tmp_path / "epochs.json")
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(_save, store, "bench-0", Epochs(1, 0))]
        assert disk.begun.wait(DEADLINE_S)
        waiting += [pool.submit(_save, store, f"bench-{number}", Epochs(number, 0)) for number in range(1, 6)]
        waiting.append(pool.submit(_save, store, "bench-0", Epochs(1, 1)))
        _wait_for(store, 6)
        assert store.get("bench-1") == Epochs(), "not durable yet"
        disk.go.set()
        for one in waiting:
            one.result(DEADLINE_S)
    assert disk.writes == 2
    again = EpochStore(tmp_path / "epochs.json")
    assert [again.get(f"bench-{number}") for number in range(6)] == [Epochs(1, 1), *(Epochs(n, 0) for n in range(1, 6))]


def test_a_disk_that_takes_nothing_is_told_to_all_who_wait(tmp_path: Path, disk: SlowDisk) -> None:
    store = EpochStore(tmp_path / "epochs.json")
    disk.full_from = 2
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(store.save, "bench-0", Epochs(1, 0))
        assert disk.begun.wait(DEADLINE_S)
        others = [pool.submit(store.save, f"bench-{number}", Epochs(5, 0)) for number in (1, 2, 3)]
        _wait_for(store, 3)
        disk.go.set()
        first.result(DEADLINE_S)
        for one in others:
            with pytest.raises(EpochError, match="No space left"):
                one.result(DEADLINE_S)
    assert (store.get("bench-0"), store.get("bench-1")) == (Epochs(1, 0), Epochs())
    disk.full_from = None
    store.save("bench-1", Epochs(5, 0))
    assert EpochStore(tmp_path / "epochs.json").get("bench-1") == Epochs(5, 0)


def test_epochs_never_fall(tmp_path: Path) -> None:
    store = EpochStore(tmp_path / "epochs.json")
    store.save("bench-1", Epochs(7, 6))
    store.save("bench-1", Epochs(3, 3))
    store.save("bench-1", Epochs(8, 0))
    assert store.get("bench-1") == EpochStore(tmp_path / "epochs.json").get("bench-1") == Epochs(8, 6)
