"""``labctl flash``: writes an image into an ECU, with a bar, and says exactly where it stopped if it did."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labd.cli.completion import complete_benches, complete_ecus
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import borrowed, leased, open_bench
from labd.cli.options import lease_options
from labd.cli.output import duration as duration_text
from labd.cli.output import format_option, print_json, print_record
from labd.cli.session import Session, pass_session

if TYPE_CHECKING:
    from bench_agent.client import EcuClient, FlashFailed, FlashProgress, FlashResult

_ATTEMPTS = 5
"""With --resume, how often a transfer may break off."""


def _address(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """0x08000000, or decimal."""
    if text is None:
        return None
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise click.BadParameter(f"{text!r} is no address; write it as 0x08000000")
    return number


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("ecu_name", metavar="ECU", shell_complete=complete_ecus)
@click.argument("image", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--address",
    callback=_address,
    metavar="ADDRESS",
    help="Where a raw binary belongs; other formats carry their own addresses.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where an attempt broke off: one of the same lease (--lease) before, or this one itself.",
)
@lease_options
@format_option
@pass_session
def flash(
    session: Session,
    bench_name: str,
    ecu_name: str,
    image: Path,
    address: int | None,
    resume: bool,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Write an image into an ECU.

    \b
      labctl flash bench-1 ECM app.hex
      labctl flash bench-1 ECM calibration.bin --address 0x08020000

    FILE is Intel HEX (.hex), Motorola S-records (.s19, .s37, ...), ELF (.elf), or a raw binary (.bin). Session,
    security, erasing and checking are those of the section flash in the ECU's description. An image that lies outside
    of the ECU's memory is refused before anything is sent.

    Ends with 0 when the ECU has taken it, 1 when the ECU refused, 2 when it broke off.
    """
    ecus = [ecu["name"] for ecu in session.lab.bench(bench_name)["ecus"]]
    if ecu_name not in ecus:
        raise Failure(
            f"bench {bench_name} has no ECU {ecu_name!r}; it has {', '.join(ecus) or 'none'}", ExitCode.REFUSED
        )
    lab = session.lab
    holding = (
        borrowed(lab, lease_id, bench_name)
        if lease_id
        else leased(lab, bench_name, holder=holder, priority=priority, timeout_s=timeout_s)
    )
    with holding as (lease, _):
        from bench_agent.client import FlashFailed

        with open_bench(lab, lease, bench_name) as bench, _bar() as show:
            try:
                result = _write(bench.ecu(ecu_name), image, address, resume, show)
            except FlashFailed as error:
                failed: FlashFailed | None = error
            else:
                failed = None
    if failed is not None:
        if as_json:
            print_json({"bench": bench_name, "ecu": ecu_name, "written": False, **_document(failed)})
        hint = "; --resume goes on there" if failed.resumable else ""
        raise Failure(_explained(failed) + hint, ExitCode.FAILED if failed.nrc else ExitCode.ERROR)
    if as_json:
        print_json(
            {
                "bench": bench_name,
                "ecu": ecu_name,
                "written": True,
                "bytes": result.bytes,
                "elapsed_s": result.elapsed_s,
            }
        )
    else:
        rate = result.bytes / result.elapsed_s / 1024 if result.elapsed_s else 0
        print_record(
            {
                "written": f"{image.name}, {result.bytes} bytes",
                "time": f"{duration_text(result.elapsed_s)} ({rate:.0f} KiB/s)",
            }
        )


def _write(
    ecu: "EcuClient", image: Path, address: int | None, resume: bool, show: "Callable[[FlashProgress], None]"
) -> "FlashResult":
    from bench_agent.client import FlashFailed

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return ecu.flash(image, address=address, resume=resume, on_progress=show)
        except FlashFailed as error:
            if not (resume and error.resumable) or attempt == _ATTEMPTS:
                raise
            click.echo(f"{_explained(error)}; going on there", err=True)
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def _bar() -> "Iterator[Callable[[FlashProgress], None]]":
    """Shows progress: a bar on a terminal, a line for each phase elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def line(at: "FlashProgress") -> None:
            if at.phase not in seen:
                seen.add(at.phase)
                click.echo(f"{at.phase} at 0x{at.address:X}, {at.done} of {at.total} bytes", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("prepare", total=None)

        def draw(at: "FlashProgress") -> None:
            block = f" block {at.block}/{at.blocks}" if at.block else ""
            what = f"{at.phase} 0x{at.address:X}{block}"
            progress.update(task, description=what, completed=at.done, total=at.total)

        yield draw


def _explained(failed: "FlashFailed") -> str:
    frame = f" (frame {failed.frame})" if failed.frame else ""
    lost = f"; the simulated ECU: {failed.lost} (frame {failed.lost_frame})" if failed.lost else ""
    return f"{failed}{frame}{lost}"


def _document(failed: "FlashFailed") -> dict[str, object]:
    at = failed.at
    return {
        "message": str(failed),
        "phase": at.phase,
        "address": at.address,
        "block": at.block,
        "blocks": at.blocks,
        "counter": at.counter if at.block else None,
        "bytes_done": at.done,
        "bytes_total": at.total,
        "nrc": failed.nrc,
        "nrc_name": failed.nrc_name or None,
        "transport": failed.transport or None,
        "frame": failed.frame or None,
        "lost": failed.lost or None,
        "lost_frame": failed.lost_frame or None,
        "resumable": failed.resumable,
    }
