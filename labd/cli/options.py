"""Kinds of command-line values: durations, PDUs, CAN filters, who is asking."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import click

from labd.cli.session import Session
from labd.client.held import default_holder, own_name
from labd.client.types import WantedBenches

Command = TypeVar("Command", bound=Callable[..., object])

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
EXTENDED, EXTENDED_ID_MASK, STANDARD_ID_MASK = 0x8000_0000, 0x1FFF_FFFF, 0x7FF
"""SocketCAN's mark of a 29-bit ID, and the largest IDs; `bench_agent.protocol.frames` has them too, at 40 ms."""
BENCHES_MAX = 32
"""Most benches of one lease."""
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)")


def duration(text: str) -> float:
    """Seconds from ``30m``, ``1h30m``, ``250ms``, or a bare number of seconds; for click's ``type=``.

    Raises click.BadParameter for anything else, and for 0.
    """
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = float(text)
    else:
        raise click.BadParameter(f"{text!r} is no duration; write 30m, 1h30m, 45s, 250ms or seconds")
    if seconds <= 0:
        raise click.BadParameter(f"{text!r} is no time at all; it must be above 0")
    return seconds


def moment(text: str) -> str:
    """A time as labd takes it (RFC 3339) from one with an offset, one without (then it is this machine's), ``09:30``
    (the next), or ``+2h`` (from now); for click's ``type=``. Raises click.BadParameter for anything else.
    """
    now = datetime.now().astimezone()
    if text.startswith("+"):
        return (now + timedelta(seconds=duration(text[1:]))).isoformat(timespec="seconds")
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text):
            hour, minute = map(int, text.split(":"))
            found = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            found += timedelta(days=found <= now)
        else:
            found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-11-21T09:30, 2026-11-21T09:30Z, 09:30 or +2h"
        ) from None
    return found.astimezone().isoformat()


def wanted_benches(text: str) -> WantedBenches:
    """What ``2*platform=meb`` or ``platform=meb`` asks for; for click's ``type=``. Raises click.BadParameter."""
    match = re.fullmatch(r"\s*(\d+)\s*\*(.*)", text, re.DOTALL)
    if match is None:
        return {"selector": text, "count": 1}
    count = int(match.group(1))
    if not 1 <= count <= BENCHES_MAX:
        raise click.BadParameter(f"{text!r} asks for {count} benches; a lease has 1 to {BENCHES_MAX}")
    return {"selector": match.group(2).strip(), "count": count}


def selector_and_benches(wanted: Sequence[WantedBenches]) -> tuple[str, list[WantedBenches]]:
    """The same as labd takes it: one bench by a selector alone, others by a list."""
    if not wanted:
        return "", []
    if len(wanted) == 1 and wanted[0]["count"] == 1:
        return wanted[0]["selector"], []
    return "", list(wanted)


def can_filter(text: str) -> tuple[int, int]:
    """(ID, mask) from ``7E8``, ``7E8:7F0`` or ``18DAF110``: hexadecimal, eight digits mean a 29-bit ID.

    Bit 31 of both tells 29-bit IDs from 11-bit ones, as in SocketCAN. Raises click.BadParameter for anything else.
    """
    match = re.fullmatch(r"([0-9A-Fa-f]{1,8})(?::([0-9A-Fa-f]{1,8}))?", text)
    if not match:
        raise click.BadParameter(f"{text!r} is no CAN filter; write 7E8, 7E8:7F0 or 18DAF110 (hexadecimal)")
    digits, mask_digits = match.groups()
    extended, identifier = len(digits) == 8, int(digits, 16)
    limit = EXTENDED_ID_MASK if extended else STANDARD_ID_MASK
    if identifier > limit:
        hint = (
            "" if extended or identifier > EXTENDED_ID_MASK else f"; a 29-bit ID takes eight digits: {identifier:08X}"
        )
        raise click.BadParameter(f"CAN ID {digits} is above {limit:X}{hint}")
    mask = int(mask_digits, 16) & limit if mask_digits else limit
    return identifier | (EXTENDED if extended else 0), mask | EXTENDED


def functional_id(text: str) -> int:
    """An arbitration ID or logical address in hexadecimal, ``7DF`` or ``0x18DB33F1``. Raises click.BadParameter."""
    if not re.fullmatch(r"(0[xX])?[0-9A-Fa-f]{1,8}", text):
        raise click.BadParameter(f"{text!r} is not hexadecimal; write 7DF")
    return int(text, 16)


def parse_pdu(words: tuple[str, ...]) -> bytes:
    """A request PDU from hexadecimal words: ``22F190``, ``22 F1 90``, ``0x22 0xF1 0x90``.

    Raises click.BadParameter, naming the word, for anything else.
    """
    data = bytearray()
    for word in words:
        digits = word[2:] if word[:2].lower() == "0x" else word
        if not re.fullmatch(r"[0-9A-Fa-f ]+", digits):
            raise click.BadParameter(f"{word!r} is not hexadecimal; write the request as 22F190 or 22 F1 90")
        if len(digits.replace(" ", "")) % 2:
            raise click.BadParameter(f"{word!r} has an odd number of digits; each byte takes two")
        data += bytes.fromhex(digits)
    if not data:
        raise click.BadParameter("the request is empty; write it as 22F190 or 22 F1 90")
    return bytes(data)


def _holder(context: click.Context, _parameter: click.Parameter, given: str | None) -> str:
    if given or context.resilient_parsing:
        return given or ""
    session = context.find_object(Session)
    return default_holder() if session is None else own_name(session.lab)


def holder_option(command: Command) -> Command:
    """Adds ``--holder``."""
    return click.option(
        "--holder",
        envvar="LABD_HOLDER",
        show_envvar=True,
        callback=_holder,
        show_default="whose token it is, or user@host",
        help="Who asks; shown to everyone who waits.",
    )(command)


def team_option(command: Command) -> Command:
    """Adds ``--team``: whose it is; None leaves that to labd."""
    return click.option(
        "--team",
        envvar="LABD_TEAM",
        show_envvar=True,
        metavar="TEAM",
        show_default="'default', or else the first team of yours",
        help="Whose it is.",
    )(command)


def affinity_option(command: Command) -> Command:
    """Adds ``--affinity``."""
    return click.option(
        "--affinity",
        default="",
        metavar="KEY",
        help="Like to get the bench that leases and runs with this key had before.",
    )(command)


def priority_option(command: Command) -> Command:
    """Adds ``--priority``."""
    return click.option(
        "--priority",
        default="normal",
        show_default=True,
        metavar="CLASS",
        help="Class of priority: low, normal, high, urgent, or what the lab's policy has. Equals go by arrival.",
    )(command)


def selectors_option(command: Command) -> Command:
    """Adds ``-l/--selector``, repeatable, and ``--same-site``: one bench or several at once, as `WantedBenches`."""
    several = click.option(
        "-l",
        "--selector",
        "wanted",
        multiple=True,
        type=wanted_benches,
        metavar="[N*]SELECTOR",
        help="Labels of the bench: 'platform=meb, site in (a,b), !broken, name=bench-1'; '2*platform=meb' for two such "
        "benches. Without it, any bench. Repeatable: the benches of each, all at once or none.",
    )
    same_site = click.option("--same-site", is_flag=True, help="Of several benches: all with the same label 'site'.")
    return several(same_site(command))


def existing_lease_option(command: Command) -> Command:
    """Adds ``--lease``: use a lease that is held already."""
    from labd.cli.completion import complete_leases

    return click.option(
        "--lease",
        "lease_id",
        metavar="ID",
        shell_complete=complete_leases,
        help="Use this lease of the bench, and leave it as it is. Without it: lease the bench, release it at the end.",
    )(command)


def held_lease_option(command: Command) -> Command:
    """Adds ``--lease``: which of the leases that are held, for a command that makes none."""
    from labd.cli.completion import complete_leases

    return click.option(
        "--lease",
        "lease_id",
        metavar="ID",
        envvar="LABD_LEASE",
        show_envvar=True,
        shell_complete=complete_leases,
        help="The lease of the bench. Without it: the one that --holder holds.",
    )(command)


def lease_timeout_option(command: Command) -> Command:
    """Adds ``--timeout``: how long to wait for the bench."""
    return click.option(
        "--timeout", "timeout_s", type=duration, metavar="TIME", help="Give up when the bench is not free within this."
    )(command)


def lease_options(command: Command) -> Command:
    """Adds what every command takes that works on a bench under a lease: ``--lease``, or how to get one."""
    return existing_lease_option(lease_timeout_option(holder_option(priority_option(command))))
