"""Runs, their results and logs, for people to read."""

import click

from labd.cli.output import duration as duration_text
from labd.cli.output import elapsed, one_line, print_record, print_table
from labd.cli.progress import Progress
from labd.client import LogLine, Result, Run


def print_verdict(final: Run, document: Result | None) -> None:
    """Of a run that has ended: its cases, and in one line how it went."""
    if document is not None and document["cases"]:
        click.echo()
        print_cases(document)
        click.echo()
    where = f" on {', '.join(final['benches'])}" if final["benches"] else ""
    took = elapsed(final["started_at"], final["ended_at"])
    click.echo(
        click.style(final["state"], fg="green" if final["state"] == "PASSED" else "red", bold=True)
        + f"  {final['name']}{where}"
        + (f" in {took}" if took else "")
        + (f": {counts(final)}" if final["cases"] else "")
        + f"  (run {final['id']})"
    )
    failures = [case["failure"] for case in document["cases"]] if document is not None else []
    told = any(failure is not None and failure["message"] in final["reason"] for failure in failures)
    if final["reason"] and not told:
        click.echo(f"  {one_line(final['reason'])}")


def print_attempts(one: Run) -> None:
    """A table of them: a run has several where a runner was lost through no fault of its own."""
    rows = []
    for attempt in one["attempts"]:
        why = ": ".join(text for text in (attempt["cause"], one_line(attempt["reason"])) if text)
        row = (
            str(attempt["number"]),
            attempt["lease_id"],
            ", ".join(attempt["benches"]),
            attempt["started_at"] or "",
            elapsed(attempt["started_at"], attempt["ended_at"]),
            why,
        )
        rows.append(row)
    print_table(["attempt", "lease", "bench", "started", "took", "ended because"], rows, empty="no attempts")


def print_cases(document: Result) -> None:
    """A table of them."""
    rows = []
    for case in document["cases"]:
        failure = case["failure"]
        place_text = f"{failure['file']}:{failure['line']}: " if failure and failure["file"] else ""
        why = f"{place_text}{failure['message']}" if failure else ""
        rows.append((case["name"], case["verdict"], duration_text(case["duration_s"]), why))
    print_table(["case", "verdict", "took", "why"], rows, empty="no cases")


def print_failures(document: Result) -> None:
    """Each with its place and the last frames before it."""
    failures = [(case["name"], case["failure"], case["frames"]) for case in document["cases"]]
    for name, failure, frames in [("the script", document["failure"], []), *failures]:
        if failure is None:
            continue
        lines = [f"({frame['time']:.6f}) {frame['bus']} {frame['frame']}" for frame in frames]
        click.echo()
        print_record(
            {
                "case": name,
                "failure": failure["message"],
                "at": f"{failure['file']}:{failure['line']}" if failure["file"] else "",
                "trace": failure["traceback"],
                "frames": "\n".join(lines),
            }
        )


def print_line(progress: Progress, line: LogLine) -> None:
    """A line of a log."""
    moment = line["time"].partition("T")[2][:12] or line["time"]
    level = line["level"] if line["level"] != "info" else ""
    progress.line(f"{moment} {f'{level}: ' if level else ''}{line['text']}", line["level"])


def counts(one: Run) -> str:
    """How many cases had which verdict."""
    cases = one["cases"]
    if cases is None:
        return ""
    said = [f"{number} {word}" for word, number in cases.items() if number]
    return ", ".join(said) or "no cases"
