"""Runs pytest; what fails beside other tests runs once more, alone: `python -m tests.alone --numprocesses 4 tests`.

Tests here start real processes that speak protocols with time limits of some 10 ms. On a machine that is shared with
others, and crowded by the tests themselves, one in some thousand misses such a limit now and then. Alone it has no such
excuse. Either failure is printed, and the summary names who needs the excuse: that is a weakness to mend.
"""

import subprocess
import sys
from collections.abc import Sequence

import pytest

MOST = 5
"""Of more failures the crowd is not the cause."""


class Failures:
    """Plugin that remembers which tests failed."""

    def __init__(self) -> None:
        self.tests: dict[str, None] = {}
        self.elsewhere = False
        """Something failed that is no test: it cannot run alone."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Also called for what other processes have run."""
        if report.failed:
            self.tests[report.nodeid] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported, say."""
        self.elsewhere |= report.failed


def run(arguments: Sequence[str]) -> int:
    """The exit code of pytest, or 0 when all that failed passes alone."""
    failures = Failures()
    code = int(pytest.main([*arguments], plugins=[failures]))
    tests = list(failures.tests)
    if code != pytest.ExitCode.TESTS_FAILED or failures.elsewhere or not 0 < len(tests) <= MOST:
        return code
    print(f"\nonce more, alone: {', '.join(tests)}\n", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", *tests], check=False).returncode
    verdict = "all pass alone: mend what makes them fail beside others" if again == 0 else "not all pass alone"
    print(f"\n{len(tests)} failed beside others, {verdict}:", *tests, sep="\n  ", flush=True)
    return again


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
