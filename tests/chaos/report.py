"""The page of what labs have survived: docs/reference/reliability.md."""

from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.publish import machine
from tests.chaos.storm import Outcome

PAGE = Path("docs/reference/reliability.md")
_MARK = "<!-- outcomes -->"
_COLUMNS = (
    "| what happened | times | load | requests | met no labd | leases | accepted calls | longest away "
    "| promises broken | on |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def publish(page: Path, outcomes: Mapping[str, Outcome], storms: Mapping[str, str]) -> None:
    """Puts the rows of these outcomes into the page's table; rows of other storms (name to words) stay.

    The table ends with its section.
    """
    head, _, rest = page.read_text().partition(_MARK)
    table, section, tail = rest.partition("\n## ")
    rows = dict(line.rpartition(" <!-- ")[::2] for line in table.splitlines() if line.endswith(" -->"))
    kept = {mark.removesuffix(" -->"): row for row, mark in rows.items()}
    kept |= {name: _row(storms[name], outcome) for name, outcome in outcomes.items()}
    lines = [f"{kept[name]} <!-- {name} -->" for name in storms if name in kept]
    page.write_text(f"{head}{_MARK}\n\n{_COLUMNS}" + "\n".join(lines) + "\n" + section + tail)


def _row(what: str, outcome: Outcome) -> str:
    broken = f"**{len(outcome.violations)}**" if outcome.violations else "none"
    load = f"{outcome.offered_rate:.0f} requests/s sent, {outcome.answered_rate:.0f} answered"
    if outcome.up_s < outcome.seconds:
        load += f", for the {outcome.up_s:.0f} s of {outcome.seconds:.0f} s that labd served"
    else:
        load += f", for {outcome.seconds:.0f} s"
    away = f"{outcome.longest_away_s:.1f} s" if outcome.longest_away_s else "was not killed"
    times = f"{outcome.blows}" + (
        f", {outcome.killed_in_start} of them in its start" if outcome.killed_in_start else ""
    )
    return (
        f"| {what.rstrip('.')} | {times} | {load} "
        f"| {outcome.requests} | {outcome.unanswered} | {outcome.leases} | {outcome.calls} "
        f"| {away} | {broken} | {machine()} |"
    )
