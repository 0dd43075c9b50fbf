"""The run itself: its script and modules, its cases and checks, log and time."""

import time
from pathlib import PurePosixPath

from labd.client.types import Failure, LogLevel
from scenarios import durations
from scenarios.bindings.context import Context
from scenarios.record import MESSAGE_LENGTH, Verdict, shorten
from scenarios.sandbox import MODULES, Function, ScenarioFault, Source

_FAILED = frozenset({"check", "negative_response", "timeout", "unexpected"})
"""Kinds of fault that say something about the device under test; any other says that script, bench or lab broke."""
_STANDARD_MODULES = ("string", "table", "math", "utf8", "coroutine")


class RunBindings:
    """Functions of the modules test, log and time, and of the kernel."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def kernel_functions(self) -> tuple[Function, ...]:
        """What the kernel calls to report; they keep the script's position themselves."""
        return (self.start_case, self.end_case, self.finish, self.script, self.tick)

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the modules."""
        return (self.module, self.log, self.now, self.monotonic, self.sleep, self.notice, self.check, self.step)

    def script(self, _where: str) -> Source:
        """The scenario's text and name."""
        return Source(_lua_text(self._context.assignment["script"]), _file_name(self._context.assignment["name"]))

    def module(self, name: str) -> Source:
        """The file of the scenario's folder that ``require`` means by ``name``."""
        files = {str(PurePosixPath(path)): text for path, text in self._context.assignment["files"].items()}
        stem = name.removesuffix(".lua").replace(".", "/")
        for path in (f"{stem}.lua", f"{stem}/init.lua"):
            if path in files:
                return Source(_lua_text(files[path]), path)
        modules = ", ".join((*MODULES, *_STANDARD_MODULES))
        beside = f"its folder holds {', '.join(sorted(files)[:20])}" if files else "no file came with the scenario"
        raise ScenarioFault(
            "invalid",
            f"module '{name}' not found: it is none of {modules}, and {beside}, not {stem}.lua",
        )

    def tick(self, where: str) -> None:
        """Called every so many Lua instructions: notes where the script is, and ends it when its time is over."""
        self._context.position = where or self._context.position
        self._context.look_at_clock()

    def start_case(self, where: str, name: str) -> None:
        """A case begins."""
        self._context.position = where or self._context.position
        try:
            self._context.record.start_case(name)
        except ValueError as error:
            raise ScenarioFault("invalid", str(error)) from error
        self._context.write("info", f"case: {name}")

    def end_case(
        self,
        _where: str,
        kind: str,
        message: str = "",
        file: str | None = None,
        line: int | None = None,
        traceback: str = "",
    ) -> None:
        """The running case ends: kind is "passed", "stop", "memory", or the kind of the fault."""
        if kind == "passed":
            self._context.record.end_case("passed")
            self._context.write("info", "  passed")
            return
        verdict, failure = self._judge(kind, message, file, line, traceback)
        frames = self._context.last_frames()
        self._context.record.end_case(verdict, failure, frames)
        self._context.write("error", f"  {verdict}: {_placed(failure)}")

    def finish(
        self,
        _where: str,
        kind: str,
        message: str = "",
        file: str | None = None,
        line: int | None = None,
        traceback: str = "",
    ) -> None:
        """The script has ended; arguments as for `end_case`."""
        if kind == "passed":
            self._context.record.finish("passed")
            return
        verdict, failure = self._judge(kind, message, file, line, traceback)
        frames = self._context.last_frames() if self._context.record.case else None
        if self._context.record.finish(verdict, failure, frames):
            self._context.log.write("error", f"{verdict}: {_placed(failure)}")
            if failure["traceback"]:
                self._context.log.write("error", failure["traceback"])

    def failure(self, message: str, file: str | None = None, line: int | None = None, traceback: str = "") -> Failure:
        """A failure at a place in the script; where none is known, at the last one that is."""
        if file is None:
            name, _, number = self._context.position.rpartition(":")
            if name and number.isdecimal():
                file, line = name, int(number)
        return Failure(
            message=shorten(self._context.masked(message), MESSAGE_LENGTH),
            file=file,
            line=line,
            traceback=shorten(self._context.masked(traceback), MESSAGE_LENGTH),
        )

    def _judge(
        self, kind: str, message: str, file: str | None, line: int | None, traceback: str
    ) -> tuple[Verdict, Failure]:
        if kind == "memory":
            most = _mebibytes(self._context.assignment["limits"]["memory_bytes"])
            self._context.stop.set(f"used more than {most} of memory", "failed")
        if kind in ("memory", "stop"):
            message = self._context.stop.reason or "the run was stopped"
            return self._context.stop.verdict, self.failure(message, file, line, traceback)
        if kind == "syntax":
            return "error", Failure(message=message, file=file, line=line, traceback=traceback)
        return "failed" if kind in _FAILED else "error", self.failure(message, file, line, traceback)

    def log(self, level: LogLevel, text: str) -> None:
        """A line, or several, for the run's log."""
        self._context.write(level, text)

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        return time.monotonic()

    def sleep(self, duration: object) -> float | None:
        """Waits; the end of the run interrupts, and so does news for the script: then the seconds that are left."""
        end = time.monotonic() + durations.parse(duration)
        self._context.stop.pause(max(0.0, min(end - time.monotonic(), self._context.remaining())))
        self._context.look_at_clock()
        left = end - time.monotonic()
        return left if left > 0 and not self._context.stop.is_set() else None

    def notice(self) -> dict[str, object] | None:
        """That labd wants the benches back, once for each time that it says so."""
        notice = self._context.revocation.take()
        return None if notice is None else {"reason": notice[0], "grace_s": notice[1]}

    def check(self) -> None:
        """A check is being evaluated."""
        self._context.record.check()

    def step(self, text: str) -> None:
        """A step that the script names."""
        self._context.record.step(text)
        self._context.write("info", f"  {text}")


def _lua_text(text: str) -> bytes:
    return text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")


def _file_name(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name) or "scenario.lua"


def _placed(failure: Failure) -> str:
    where = f"{failure['file']}:{failure['line']}: " if failure["file"] else ""
    return f"{where}{failure['message']}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.4g} MiB"
