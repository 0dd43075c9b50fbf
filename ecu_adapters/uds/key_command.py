"""A command that computes the key of SecurityAccess: the seed on its standard input, the key on its standard output.

Both are hexadecimal text. The command runs without a shell, in a process group that is killed when time is up, and
sees nothing of the agent's environment but PATH and HOME. What it writes to standard error is not passed on: it may
hold the key.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

_MOST = 64 * 1024
"""Bytes of output that are read; a key has a few dozen."""
_ENVIRONMENT = ("PATH", "HOME")


async def key_from(command: Sequence[str], seed: bytes, level: int, timeout_s: float) -> bytes:
    """Runs ``command``, with ``{level}`` replaced in its arguments. Raises ValueError, saying what went wrong."""
    arguments = [part.replace("{level}", str(level)) for part in command]
    name = arguments[0]
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise ValueError(f"command {name} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout_s):
            output = await _converse(process, seed)
            code = await process.wait()
    except TimeoutError:
        raise ValueError(f"command {name} did not end within {timeout_s:g} s") from None
    finally:
        _kill(process)
        await process.wait()
    if code:
        raise ValueError(f"command {name} ended with exit code {code}; its standard error is not shown")
    return _key(name, output)


async def _converse(process: asyncio.subprocess.Process, seed: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the command has no standard input or output")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may not want the seed: its answer decides
        process.stdin.write(seed.hex().upper().encode() + b"\n")
        await process.stdin.drain()
    process.stdin.close()
    output = b""
    while len(output) <= _MOST:
        part = await process.stdout.read(_MOST)
        if not part:
            break
        output += part
    return output


def _kill(process: asyncio.subprocess.Process) -> None:
    """Ends the command and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)


def _key(name: str, output: bytes) -> bytes:
    try:
        key = bytes.fromhex(output.decode("ascii"))
    except ValueError:
        raise ValueError(f"command {name} printed {len(output)} bytes that are no hexadecimal text") from None
    if not key or len(output) > _MOST:
        raise ValueError(f"command {name} printed no key")
    return key
