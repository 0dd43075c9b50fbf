"""Takes points from the spool to the database, one request at a time, so that each series keeps its order."""

from collections.abc import Callable

import structlog

from labd.model.check import Check, CheckState
from labd.telemetry.backoff import Backoff
from labd.telemetry.counters import Counters, Loss
from labd.telemetry.influx import Answer, Meaning, Target
from labd.telemetry.spool import Batch, Spool

LINES_MAX = 5_000
"""Of a request, as InfluxDB recommends."""
BYTES_MAX = 2 * 2**20
"""Of a request, before compression, about."""
_GROW = 100
"""By so many lines requests grow again, each, after one was too large."""

_log = structlog.get_logger()


class Sender:
    """Each step is one request, and says how long to wait for the next one.

    A point may be sent twice when an answer is lost, or labd is killed before it has noted it: with the same series
    and time, so that InfluxDB holds it once.
    """

    def __init__(
        self,
        spool: Spool,
        target: Target,
        counters: Counters,
        clock: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        """``clock``: s since the Unix epoch."""
        self._spool = spool
        self._target = target
        self._counters = counters
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._lines_max = LINES_MAX
        self._batch: Batch | None = None
        self._parts: list[list[bytes]] = []
        self._trouble: Answer | None = None
        self._since = 0.0
        self._refused: Answer | None = None
        self._said: set[Loss] = set()

    def step(self) -> float | None:
        """Sends what is next. Returns how many seconds to wait before the next step; None when the spool is empty."""
        try:
            if self._batch is None:
                self._batch = self._spool.peek(self._lines_max, BYTES_MAX)
                if self._batch is None:
                    return None
                self._parts = [self._batch.lines]
            answer = self._target.send(self._parts[0])
            self._counters.requests += 1
            wait = self._take(answer, self._parts.pop(0))
            if not self._parts:
                self._spool.acknowledge(self._batch)
                self._batch = None
        except OSError as error:  # of the spool
            self._note(Answer(Meaning.LATER, f"the spool cannot be read: {error}"))
            self._batch, self._parts = None, []
            return self._backoff.failed()
        return wait

    def checks(self) -> list[Check]:
        """How the database does, for ``labctl doctor``."""
        trouble, refused = self._trouble, self._refused
        found = []
        if trouble is not None:
            away = f"for {self._clock() - self._since:.0f} s: {trouble.message}; {self._counters.spooled} points wait"
            if trouble.meaning is Meaning.MISCONFIGURED:
                text = f"refuses what labd sends, {away}"
                found.append(Check("InfluxDB", CheckState.ERROR, text, _remedy(trouble)))
            else:
                text = f"takes nothing, {away}"
                remedy = "look at InfluxDB and the way to it"
                if "CERTIFICATE_VERIFY_FAILED" in trouble.message:
                    remedy = "give the authority of InfluxDB's certificate by --influx-ca"
                found.append(
                    Check("InfluxDB", CheckState.ERROR, text, f"{remedy}; points wait in the spool until then")
                )
        elif self._counters.last_success is None:
            found.append(Check("InfluxDB", CheckState.OK, "nothing was sent yet"))
        else:
            ago = self._clock() - self._counters.last_success
            found.append(
                Check("InfluxDB", CheckState.OK, f"took {self._counters.written} points, the last {ago:.0f} s ago")
            )
        if refused is not None:
            dropped = self._counters.dropped[Loss.REFUSED] + self._counters.dropped[Loss.TOO_LARGE]
            text = f"{dropped} points were refused and dropped, the last with: {refused.message}"
            remedy = "a field of another type, or older than the bucket keeps: use a bucket of labd's own"
            found.append(Check("InfluxDB: refused points", CheckState.WARNING, text, remedy))
        return found

    def _take(self, answer: Answer, lines: list[bytes]) -> float:
        if answer.meaning is Meaning.WRITTEN:
            self._succeed(len(lines) - min(answer.left_out, len(lines)))
            if answer.left_out:
                self._refuse(answer, Loss.REFUSED, min(answer.left_out, len(lines)))
            self._lines_max = min(LINES_MAX, self._lines_max + _GROW)
            return 0.0
        if answer.meaning in (Meaning.BAD_LINES, Meaning.TOO_LARGE):
            if len(lines) == 1:
                self._refuse(answer, Loss.REFUSED if answer.meaning is Meaning.BAD_LINES else Loss.TOO_LARGE, 1)
                return 0.0
            half = len(lines) // 2
            if answer.meaning is Meaning.TOO_LARGE:
                self._lines_max = max(1, min(self._lines_max, half))
            self._parts[:0] = [lines[:half], lines[half:]]
            return 0.0
        self._parts.insert(0, lines)
        self._note(answer)
        return self._backoff.failed(answer.retry_after_s)

    def _succeed(self, points: int) -> None:
        self._backoff.succeeded()
        self._counters.written += points
        self._counters.last_success = self._clock()
        if self._trouble is not None:
            _log.info("InfluxDB takes points again", after_s=round(self._clock() - self._since))
            self._trouble = None

    def _note(self, answer: Answer) -> None:
        """Logs trouble when it begins, and when it becomes of another kind."""
        if self._trouble is None:
            self._since = self._clock()
        if self._trouble is None or self._trouble.meaning is not answer.meaning:
            _log.warning(
                "InfluxDB takes no points; they wait in the spool", answer=answer.message, remedy=_remedy(answer)
            )
        self._trouble = answer

    def _refuse(self, answer: Answer, why: Loss, points: int) -> None:
        self._backoff.succeeded()  # it answers
        self._counters.lose(why, points)
        self._refused = answer
        if why not in self._said:
            self._said.add(why)
            _log.warning("InfluxDB refuses points, which are dropped and counted", answer=answer.message, cause=why)


def _remedy(answer: Answer) -> str:
    for status, remedy in _REMEDIES.items():
        if answer.message.startswith(f"HTTP {status}"):
            return remedy
    return "look at InfluxDB and at --influx-url"


_REMEDIES = {
    401: "put a token that may write into the file of --influx-token-file; labd reads it again",
    403: "give the token the right to write into the bucket of --influx-bucket",
    404: "make the bucket, or correct --influx-bucket, --influx-org or --influx-url",
    3: "give the address that --influx-url is redirected to",
}
