"""The nursery: a process that has a runner's modules loaded, and forks a runner each time it is asked to.

It has no threads, opens no connections and never learns a secret: a runner reads its own environment, with its run's
token, once it is a process of its own. Nobody waits for runners here. Each is orphaned at birth, and so becomes a
child of whoever started the nursery (see `runners.processes.adopt_orphans`), as if that one had started it itself.
"""

import gc
import json
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

from runners.processes import name_process

READY = b"ready"
REFUSAL = b"!"
"""Before the reason, in place of a runner's number."""
MESSAGE_BYTES = 8 * 1024
DESCRIPTORS_MAX = 256
"""A nursery has a dozen; their numbers are the lowest that are free."""


class NurseryError(Exception):
    """Forking here would not be safe; the message says why."""


def serve(run: Callable[[], int]) -> int:
    """Forks runners, each of which does ``run``, as the socket on standard input asks for; returns when it is closed.

    Returns in the runners too, with what ``run`` has returned. Raises NurseryError.
    """
    name_process("labd-nursery")
    threads = len(list(Path("/proc/self/task").iterdir())) - 1
    if threads:
        raise NurseryError(f"one of the modules that runners need has started {threads} threads")
    gc.collect()
    gc.freeze()  # or the first collection of each runner would copy all of it
    door = socket.socket(fileno=os.dup(0))
    door.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, MESSAGE_BYTES, 2)
        if not message or _is_hung_up(door):
            return 0
        try:
            answer = _fork(Path(os.fsdecode(message)), *descriptors)
        except OSError as error:
            answer = REFUSAL + str(error).encode()
        if answer is None:
            return run()
        for descriptor in descriptors:
            os.close(descriptor)
        door.send(answer)


def _fork(directory: Path, environment: int, output: int) -> bytes | None:
    """The runner's number, or why there is none; None in the runner, which has its environment by then."""
    reader, writer = os.pipe()
    between = os.fork()
    if not between:
        try:
            _settle(directory, output)
            if os.fork():
                os._exit(0)
        except OSError as error:
            os.write(writer, REFUSAL + str(error).encode())
            os._exit(1)
        os.setsid()
        name_process("labd-runner")
        os.write(writer, str(os.getpid()).encode())
        _adopt(environment)
        return None
    os.close(writer)
    try:
        os.waitpid(between, 0)  # from here on the runner is no child of the nursery's
        return os.read(reader, MESSAGE_BYTES)
    finally:
        os.close(reader)


def _settle(directory: Path, output: int) -> None:
    os.chdir(directory)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, number)


def _adopt(environment: int) -> None:
    """Returns with the environment that is in the pipe, and none of the nursery's descriptors."""
    with open(environment, "rb", closefd=False) as pipe:
        text = pipe.read()
    if not text:
        os._exit(0)  # whoever asked for a runner is gone, or gave up
    os.closerange(3, DESCRIPTORS_MAX)
    os.environ.clear()
    os.environ.update(json.loads(text))


def _is_hung_up(door: socket.socket) -> bool:
    poll = select.poll()
    poll.register(door, 0)
    return bool(poll.poll(0))
