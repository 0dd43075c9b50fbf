"""Before-lease and after-lease hooks: Lua scripts of the bench's own, run as processes beside the agent.

A hook runs in the sandbox of any scenario and reaches the bench by the unix socket, with a pass that its gate has made
for it and that dies with it. It is killed at its deadline, and when what it runs for has ended.
"""

import asyncio
import contextlib
import json
import resource
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import structlog

from bench_agent.server.config import HookConfig, Hooks
from bench_agent.server.errors import CleanUpError
from bench_agent.server.guard import Gate, HookPass
from runners import launch
from runners.processes import describe_exit, signal_group

HookName = Literal["before_lease", "after_lease"]

_MEMORY_BYTES = 256 * 2**20
_OUTPUT_BYTES = 4 * 2**20
_LINE_BYTES = 2**20
_TAIL_BYTES = 2048
_FILES_MAX, _FILES_BYTES_MAX = 256, 2**20
_START_S = 5.0
"""What the start of the process may take beyond the hook's own deadline."""
_EXIT_S = 2.0
"""From the end of its output to the end of the process."""

_log = structlog.get_logger()


class HookFailed(Exception):
    """A hook failed, and its policy is not to go on; the message says which hook and why."""

    def __init__(self, message: str, *, quarantine: bool) -> None:
        super().__init__(message)
        self.quarantine = quarantine
        """Nobody may have the bench until somebody has looked at it."""


class BenchHooks:
    """The hooks of one bench. Used on one asyncio loop."""

    def __init__(self, bench: str, labels: Mapping[str, str], config: Hooks, gate: Gate) -> None:
        self._bench = bench
        self._labels = dict(labels)
        self._config = config
        self._gate = gate
        self.address = ""
        """gRPC address of the agent's unix socket."""
        self._warnings: dict[HookName, str] = {}

    @property
    def warning(self) -> str:
        """Which hooks failed the last time they ran, although the bench goes on; empty when none did."""
        return "; ".join(self._warnings.values())

    def deadline_s(self, name: HookName) -> float:
        """How long the hook may take, its start and end included; 0 when there is none."""
        hook = self._hook(name)
        return 0.0 if hook is None else hook.timeout_s + _START_S

    async def run(self, name: HookName, lease: str, epoch: int, folder: Path | None) -> None:
        """Runs the hook, if there is one; its log goes to a file in ``folder`` as well. Raises HookFailed."""
        hook = self._hook(name)
        if hook is None:
            return
        with structlog.contextvars.bound_contextvars(bench=self._bench, hook=name, lease=lease):
            _log.info("hook runs", script=str(hook.script))
            try:
                async with self._gate.hook_pass(lease, epoch, name) as granted:
                    fault = await self._outcome(hook, name, granted, lease, folder)
            except CleanUpError as error:
                raise HookFailed(f"hook {name}: {error}", quarantine=True) from error
            if fault is None:
                self._warnings.pop(name, None)
                _log.info("hook has passed")
                return
            message = f"hook {name} ({hook.script.name}) failed: {fault}"
            _log.error("hook failed", reason=fault, policy=hook.on_failure)
        if granted.revoked is None and hook.on_failure == "warn":
            self._warnings[name] = message
            return
        self._warnings.pop(name, None)
        raise HookFailed(message, quarantine=granted.revoked is None and hook.on_failure == "quarantine")

    def _hook(self, name: HookName) -> HookConfig | None:
        return self._config.before_lease if name == "before_lease" else self._config.after_lease

    async def _outcome(
        self, hook: HookConfig, name: HookName, granted: HookPass, lease: str, folder: Path | None
    ) -> str | None:
        """Why it failed; None when it passed."""
        try:
            script, files, sizes = await asyncio.to_thread(_read, hook)
        except (OSError, ValueError) as error:
            return f"{hook.script} cannot be read: {error}"
        assignment = {
            "run_id": name,
            "name": hook.script.name,
            "script": script,
            "files": files,
            "data_files": sizes,
            "environment": {},
            "secrets": [],
            "lease_id": lease,
            "ttl_s": 3600.0,
            "benches": [{"name": self._bench, "address": self.address, "token": granted.token, "labels": self._labels}],
            "limits": {"timeout_s": hook.timeout_s, "memory_bytes": _MEMORY_BYTES, "output_bytes": _OUTPUT_BYTES},
        }
        with tempfile.TemporaryDirectory(prefix="bench-hook-") as directory:
            try:
                process = await _Process.start(Path(directory), hook.script.parent, json.dumps(assignment).encode())
            except OSError as error:
                return f"it cannot be started: {error}"
            log = None if folder is None else folder / f"{name}.log"
            return await process.outcome(hook.timeout_s + _START_S, granted, log)


class _Process:
    """A running hook."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._result: dict[str, Any] | None = None
        self._said = b""

    @classmethod
    async def start(cls, directory: Path, folder: Path, assignment: bytes) -> "_Process":
        """Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *launch.COMMAND, "hook", str(folder),
            cwd=directory, env=launch.environment(), limit=_LINE_BYTES, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (launch.FILE_BYTES_MAX, launch.FILE_BYTES_MAX))
        if process.stdin is not None:
            process.stdin.write(assignment)
            process.stdin.close()
        return cls(process)

    async def outcome(self, timeout_s: float, granted: HookPass, log: Path | None) -> str | None:
        """Waits for the end, which comes at the deadline at the latest. Why the hook failed; None when it passed."""
        work = asyncio.create_task(self._follow(log))
        revoked = asyncio.create_task(granted.wait_revoked())
        try:
            done, _ = await asyncio.wait({work, revoked}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EXIT_S):
                        await self._process.wait()
                fault = work.result()
                if fault is not None:
                    return fault
            elif revoked in done:
                return f"it was stopped: {granted.revoked}"
            else:
                return f"it took longer than {timeout_s - _START_S:g} s, and was killed"
        finally:
            if self._process.returncode is None:
                signal_group(self._process.pid, signal.SIGKILL)
            revoked.cancel()
            await asyncio.gather(work, revoked, return_exceptions=True)
            returncode = await self._process.wait()
        if self._result is not None:
            return None if self._result["verdict"] == "passed" else str(self._result["reason"])
        said = self._said.decode("utf-8", "replace").strip()
        return f"it {describe_exit(returncode)} without a result" + (f"; it wrote: {said}" if said else "")

    async def _follow(self, log: Path | None) -> str | None:
        """Reads all that the process writes. Why that cannot be right; None when it is."""
        complaints = asyncio.create_task(self._listen())
        try:
            with contextlib.ExitStack() as stack:
                file = None
                if log is not None:
                    try:
                        log.parent.mkdir(parents=True, exist_ok=True)
                        file = stack.enter_context(log.open("a", encoding="utf-8"))
                    except OSError as error:
                        _log.warning("the hook's log is not kept", file=str(log), reason=str(error))
                return await self._read(file)
        finally:
            await complaints

    async def _read(self, file: Any) -> str | None:
        if self._process.stdout is None:
            raise RuntimeError("the hook was started without a pipe")
        while True:
            try:
                line = await self._process.stdout.readline()
                message = json.loads(line) if line else None
            except ValueError as error:
                return f"it wrote what no hook writes: {error}"
            if message is None:
                return None
            for entry in message.get("log", ()):
                _log.info("hook says", level=entry["level"], text=entry["text"])
                if file is not None:
                    file.write(f"{entry['time']} {entry['level']}: {entry['text']}\n")
            self._result = message.get("result", self._result)

    async def _listen(self) -> None:
        if self._process.stderr is not None:
            while part := await self._process.stderr.read(4096):
                self._said = (self._said + part)[-_TAIL_BYTES:]


def _read(hook: HookConfig) -> tuple[str, dict[str, str], dict[str, int]]:
    """The script, the other Lua files of its folder, for `require`, and the sizes of the files that it names.

    Raises OSError and ValueError.
    """
    script = hook.script
    others = [path for path in sorted(script.parent.rglob("*.lua")) if path != script and path.is_file()]
    if len(others) > _FILES_MAX or sum(path.stat().st_size for path in others) > _FILES_BYTES_MAX:
        raise ValueError(f"its folder holds more than {_FILES_MAX} Lua files, or more than {_FILES_BYTES_MAX} bytes")
    files = {str(path.relative_to(script.parent)): path.read_text("utf-8") for path in others}
    sizes = {str(file): (script.parent / file).stat().st_size for file in hook.files}
    return script.read_text("utf-8"), files, sizes
