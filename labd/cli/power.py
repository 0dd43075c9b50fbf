"""``labctl power``: switches, sets and measures the power of a bench, and plays voltage over time."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labd.cli.completion import POWER_ACTIONS, complete_benches, complete_power
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import open_bench, using
from labd.cli.options import duration, lease_options
from labd.cli.output import duration as duration_text
from labd.cli.output import format_option, print_json, print_record, print_table
from labd.cli.progress import Progress
from labd.cli.session import Session, pass_session

if TYPE_CHECKING:
    from bench_agent.client import BenchClient, PowerChannelState, PowerReading

_OF_ALL = ("show", "on", "off", "measure")
"""What is done to every channel when none is named."""
_VOLATILE = ("on", "cycle", "set")
"""What the end of the lease undoes."""
_LONGEST_FILE = 1 << 20


@dataclass(frozen=True)
class _Order:
    """What is to be done to a channel."""

    action: str
    channel: str | None
    profile: str
    voltage: float | None
    current: float | None
    off_s: float | None
    step_s: float | None


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("words", metavar="[CHANNEL] [ACTION]", nargs=-1, shell_complete=complete_power)
@click.option("--voltage", type=float, metavar="V", help="Of set: the voltage.")
@click.option("--current", type=float, metavar="A", help="Of set: the current limit.")
@click.option("--off-time", "off_s", type=duration, metavar="TIME", help="Of cycle: the pause, 1 s unless told.")
@click.option("--step", "step_s", type=duration, metavar="TIME", help="Of profile: the time between two voltages.")
@lease_options
@format_option
@pass_session
def power(
    session: Session,
    bench_name: str,
    words: tuple[str, ...],
    voltage: float | None,
    current: float | None,
    off_s: float | None,
    step_s: float | None,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Switch, set and measure the power of a bench.

    \b
      labctl power bench-1                                  all channels, and what they deliver
      labctl power bench-1 kl15 on                          also: off, cycle, measure
      labctl power bench-1 kl30 set --voltage 9 --current 5
      labctl power bench-1 kl30 profile dip.csv             or a built-in one: iso16750_reset
      labctl power bench-1 off                              all channels

    CHANNEL is a name, or a terminal: kl30 (battery), kl15 (ignition). Without it, on, off and measure are for all
    channels, the others for the only one. A profile's file has a line of milliseconds and volts for each point: "0,12".

    Leases the bench and releases it at the end, which brings every channel to its safe state. To keep what was
    switched or set, hold a lease (labctl lease acquire) and name it with --lease.

    Ends with 2 when the supply fails.
    """
    order = _order(words, voltage, current, off_s, step_s)
    points = _points(order.profile)
    channels = _channels(session, bench_name, order)
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, _), open_bench(lab, lease, bench_name) as bench:
        if order.action == "profile":
            _play(bench, channels[0], order, points, as_json)
            return
        faults = _act(bench, channels, order)
        states = [state for state in bench.power.channels() if state.name in channels]
    if as_json:
        print_json({"bench": bench_name, "channels": [asdict(state) for state in states]})
    else:
        print_table(_HEADINGS, [_row(state) for state in states], empty="")
    if faults:
        raise Failure("; ".join(faults), ExitCode.ERROR)
    if lease_id is None and order.action in _VOLATILE:
        click.echo(f"{bench_name} is released, and goes to its safe state now; --lease keeps it as it is", err=True)


def _order(
    words: tuple[str, ...], voltage: float | None, current: float | None, off_s: float | None, step_s: float | None
) -> _Order:
    """Raises click.UsageError for words and options that make no sense together."""
    named = bool(words) and (words[0] not in POWER_ACTIONS or words[1:2] in [(one,) for one in POWER_ACTIONS])
    channel, rest = (words[0], words[1:]) if named else (None, words)
    action, *more = rest or ("show",)
    if rest and action not in POWER_ACTIONS:
        raise click.UsageError(f"{action!r} is no action; there are {', '.join(POWER_ACTIONS)}")
    if action == "profile" and not more:
        raise click.UsageError("profile needs a file, or the name of a built-in one")
    if len(more) > (action == "profile"):
        raise click.UsageError(f"{more[-1]!r} is too much: {action} takes no more words")
    of_action = {"--voltage": "set", "--current": "set", "--off-time": "cycle", "--step": "profile"}
    for (option, owner), value in zip(of_action.items(), (voltage, current, off_s, step_s), strict=True):
        if value is not None and action != owner:
            raise click.UsageError(f"{option} goes with {owner}, not with {action}")
    if action == "set" and voltage is None and current is None:
        raise click.UsageError("set needs --voltage, --current, or both")
    return _Order(action, channel, more[0] if more else "", voltage, current, off_s, step_s)


def _channels(session: Session, bench_name: str, order: _Order) -> list[str]:
    """Names of the channels that are meant, looked up before the bench is leased for nothing."""
    listed = session.lab.bench(bench_name)["equipment"]["power"]
    known = ", ".join(one["name"] for one in listed) or "none"
    if order.channel is not None:
        for key in ("name", "terminal"):
            for one in listed:
                if one[key] == order.channel:
                    return [one["name"]]
        raise Failure(f"bench {bench_name} has no power channel {order.channel!r}; it has {known}", ExitCode.REFUSED)
    if not listed or (len(listed) > 1 and order.action not in _OF_ALL):
        which = f"name the channel to {order.action}: " if listed else ""
        raise Failure(f"{which}bench {bench_name} has power channels {known}", ExitCode.REFUSED)
    return [one["name"] for one in listed]


def _points(profile: str) -> list[tuple[float, float]]:
    """Points of (ms, V) from a file; none if there is no such file. Raises Failure, naming the line, for a bad one."""
    path = Path(profile)
    if not profile or not (path.is_file() or path.suffix or len(path.parts) > 1):
        return []
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise Failure(f"profile {path} cannot be read: {error.strerror}", ExitCode.USAGE) from error
    except UnicodeDecodeError as error:
        raise Failure(f"profile {path} is not UTF-8 text: {error.reason}", ExitCode.USAGE) from error
    if len(text) > _LONGEST_FILE:
        raise Failure(f"profile {path} is larger than {_LONGEST_FILE >> 20} MiB", ExitCode.USAGE)
    points = []
    for number, line in enumerate(text.splitlines(), 1):
        stated = line.partition("#")[0].strip()
        if not stated:
            continue
        try:
            at_ms, voltage = map(float, stated.split(","))
        except ValueError:
            raise Failure(
                f"profile {path}, line {number} is {stated!r}; it must be milliseconds and volts: 100, 4.5",
                ExitCode.USAGE,
            ) from None
        points.append((at_ms, voltage))
    return points


def _act(bench: "BenchClient", channels: list[str], order: _Order) -> list[str]:
    """Carries the order out on every channel, also when the supply of one fails. Returns how those failed."""
    from bench_agent.client import DeviceFault, InvalidRequest

    faults: list[str] = []
    for name in channels:
        channel = bench.power.channel(name)
        try:
            match order.action:
                case "on":
                    channel.on()
                case "off":
                    channel.off()
                case "cycle":
                    channel.cycle(order.off_s or 1.0)
                case "set":
                    channel.set(voltage=order.voltage, current_limit=order.current)
                case "show" | "measure":
                    channel.measure()
        except DeviceFault as error:
            if str(error) not in faults:
                faults.append(str(error))
        except InvalidRequest:
            if order.action != "show" and (order.channel is not None or order.action != "measure"):
                raise  # unless asked for it by name, a channel whose supply does not measure is shown without
    return faults


def _play(bench: "BenchClient", channel: str, order: _Order, points: list[tuple[float, float]], as_json: bool) -> None:
    name = Path(order.profile).stem if points else order.profile
    step_ms = max(1, round(order.step_s * 1000)) if order.step_s else 0
    with Progress(stdout_is_data=True) as progress:
        progress.state(f"{name} on {channel}")
        played = bench.power.channel(channel).profile(name, points, step_ms=step_ms)
    if as_json:
        print_json({"bench": bench.name, "channel": channel, **asdict(played)})
        return
    print_record(
        {
            "profile": f"{played.name} ({played.source})" if played.source else played.name,
            "channel": channel,
            "time": duration_text(played.steps[-1].achieved_ms / 1000) if played.steps else "",
            "steps": f"{len(played.steps)} set, {played.skipped} skipped",
            "worst delay": f"{played.worst_ms:.1f} ms",
        }
    )


_HEADINGS = ("channel", "terminal", "supply", "state", "voltage", "current limit", "measured", "fault")


def _row(state: "PowerChannelState") -> tuple[str, ...]:
    return (
        state.name,
        state.terminal,
        state.supply,
        state.state,
        _with_unit(state.voltage, "V"),
        _with_unit(state.current_limit, "A"),
        _measured(state.reading),
        state.fault,
    )


def _measured(reading: "PowerReading | None") -> str:
    if reading is None:
        return ""
    values = (_with_unit(reading.voltage, "V"), _with_unit(reading.current, "A"))
    return " ".join(value for value in values if value)


def _with_unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g} {unit}"
