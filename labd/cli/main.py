"""The entry point: ``labctl [--labd URL] COMMAND``.

labctl starts in well under 300 ms because only click and the module of the command are imported up front; urllib3,
rich and gRPC are imported inside the commands that need them. Keep it so.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import click

from labd.cli.errors import as_failure
from labd.cli.exits import ExitCode, Failure, Interrupted, table_text
from labd.cli.lazy import LazyGroup
from labd.cli.session import Session
from labd.client import DEFAULT_URL, LabError

_COMMANDS = (
    "agent",
    "audit",
    "backup",
    "bench",
    "can",
    "completion",
    "console",
    "doctor",
    "env",
    "flash",
    "lease",
    "login",
    "logout",
    "policy",
    "power",
    "retention",
    "run",
    "secret",
    "status",
    "team",
    "test",
    "token",
    "top",
    "trace",
    "uds",
    "user",
    "whoami",
)
"""Each in the module of its name."""


class Labctl(LazyGroup):
    """The top group: turns errors and signals into one line and an exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parses the options before the command."""
        with _one_line_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Parses what the command takes, and runs it."""
        with _one_line_errors(), _termination_as_exception():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """What was raised, told on stderr and turned into an exit code. Faults of labctl itself keep their traceback."""
    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(ExitCode.USAGE) from None  # click's own 2 means ERROR here
    except BrokenPipeError:
        # Whoever read the output (head, less) has enough; later flushes must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(ExitCode.OK) from None
    except OSError as error:
        _fail(Failure(str(error), ExitCode.OUTPUT))
    except KeyboardInterrupt as interrupt:
        number = interrupt.signal_number if isinstance(interrupt, Interrupted) else signal.SIGINT
        raise click.exceptions.Exit(128 + number) from None
    except (click.exceptions.Exit, click.ClickException):
        raise
    except Exception as error:
        failure = error if isinstance(error, Failure) else as_failure(error)
        if failure is None:
            raise
        _fail(failure)


def _fail(failure: Failure) -> NoReturn:
    click.echo(f"Error: {failure}", err=True)
    raise click.exceptions.Exit(failure.code) from None


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """SIGTERM (a CI job cancelled) and SIGHUP (a terminal closed) unwind the stack as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    # Windows has no SIGHUP.
    former = {
        number: signal.signal(number, unwind) for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if number
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _home() -> str:
    from labd.client.credentials import latest

    with contextlib.suppress(LabError):  # a file that cannot be read is the business of who needs a token
        return latest() or DEFAULT_URL
    return DEFAULT_URL


@click.group(
    cls=Labctl,
    lazy={name: f"labd.cli.{name}:{name}" for name in _COMMANDS},
    epilog=table_text(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--labd",
    "url",
    metavar="URL",
    envvar="LABD_URL",
    show_envvar=True,
    default=_home,
    show_default=f"the one signed in to last, or {DEFAULT_URL}",
    help="Where labd is. Several labds of one lab with commas: the next one is asked when one does not answer.",
)
@click.version_option(package_name="labd", message="labctl %(version)s")
@click.pass_context
def main(ctx: click.Context, url: str) -> None:
    """Lease ECU benches and run scenarios on them.

    \b
      labctl bench ls
      labctl run identify.lua --selector platform=meb --wait
      labctl uds bench-1 ECM 22F190
      labctl can dump bench-1 powertrain
    """
    ctx.obj = session = Session(url)
    ctx.call_on_close(session.close)


if __name__ == "__main__":
    main()
