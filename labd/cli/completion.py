"""Shell completion: the script for the shell, and names asked from labd while typing."""

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem, get_completion_class

from labd.cli.output import labels
from labd.client import DEFAULT_URL, HELD, LabClient, LabError, Lease

POWER_ACTIONS = ("on", "off", "cycle", "set", "measure", "profile")
"""What ``labctl power`` does to a channel."""
_PATIENCE_S = 1.0
"""How long a Tab may hang when labd does not answer."""
_HOW = {
    "bash": '~/.bashrc: eval "$(labctl completion bash)"',
    "zsh": '~/.zshrc: eval "$(labctl completion zsh)"',
    "fish": "~/.config/fish/config.fish: labctl completion fish | source",
}

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command(
    epilog="\b\nTo have it in every shell, add to\n" + "\n".join(f"  {line}" for line in _HOW.values()),
)
@click.argument("shell", type=click.Choice(list(_HOW)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    It completes commands, options and files, and asks labd for the names of benches, buses, ECUs, leases and runs,
    and a Kubernetes cluster for those of tests.
    """
    script = get_completion_class(shell)
    if script is None:  # the choice above names click's own shells only
        raise click.UsageError(f"click does not know the shell {shell!r}")
    root = ctx.find_root()
    name = "kctrl" if root.info_name == "kctrl" else "labctl"  # it is installed under both
    click.echo(script(root.command, {}, name, f"_{name.upper()}_COMPLETE").source())


def _completer(ask: Callable[[LabClient, click.Context], dict[str, str]]) -> Completer:
    """A completer that offers what ``ask`` returns (name to help text); when labd does not answer, nothing."""

    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        url = ctx.find_root().params.get("url") or DEFAULT_URL
        try:
            with LabClient(url, timeout_s=_PATIENCE_S) as lab:
                offers = ask(lab, ctx)
        except LabError:
            return []
        return [CompletionItem(name, help=text) for name, text in offers.items() if name.startswith(incomplete)]

    return complete


def _benches(lab: LabClient, _ctx: click.Context) -> dict[str, str]:
    return {bench["name"]: labels(bench["labels"]) for bench in lab.benches()}


def _buses(lab: LabClient, ctx: click.Context) -> dict[str, str]:
    bench = lab.bench(ctx.params["bench_name"])
    return {bus["name"]: f"{bus['interface']} {bus['channel']}" for bus in bench["buses"]}


def _ecus(lab: LabClient, ctx: click.Context) -> dict[str, str]:
    bench = lab.bench(ctx.params["bench_name"])
    return {ecu["name"]: f"on {ecu['bus']}" for ecu in bench["ecus"]}


def _consoles(lab: LabClient, ctx: click.Context) -> dict[str, str]:
    return {one["name"]: one["port"] for one in lab.bench(ctx.params["bench_name"])["equipment"]["consoles"]}


def _power(lab: LabClient, ctx: click.Context) -> dict[str, str]:
    """A channel or what is done to all; then what is done to it."""
    actions = dict.fromkeys(POWER_ACTIONS, "")
    if ctx.params.get("words"):
        return actions
    listed = lab.bench(ctx.params["bench_name"])["equipment"]["power"]
    return {one["name"]: f"{one['terminal']} of {one['supply']}".strip() for one in listed} | actions


def _leases(lab: LabClient, _ctx: click.Context) -> dict[str, str]:
    live = lab.leases(*HELD, "QUEUED", limit=1000)
    return {lease["id"]: f"{_held(lease) or lease['selector']} {lease['holder']}" for lease in live}


def _held(lease: Lease) -> str:
    return ",".join(one["name"] for one in lease["benches"])


def _runs(lab: LabClient, _ctx: click.Context) -> dict[str, str]:
    return {run["id"]: f"{run['name']} {run['state']}" for run in lab.runs()}


complete_benches = _completer(_benches)
complete_buses = _completer(_buses)
complete_consoles = _completer(_consoles)
complete_power = _completer(_power)
complete_ecus = _completer(_ecus)
complete_leases = _completer(_leases)
complete_runs = _completer(_runs)
