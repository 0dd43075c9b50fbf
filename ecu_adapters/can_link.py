"""SocketCAN interfaces as `ip link` of iproute2 shows and sets them up: bit rates, sample points, modes, restart.

What is wanted comes from the bus' configuration. An interface that is down is set up, which takes CAP_NET_ADMIN; one
that is up is only checked, since others may be using it. Interfaces without a controller (vcan, vxcan) need nothing.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ecu_adapters.can_config import CanConfig
from ecu_adapters.error_frames import BusState

_IP_S = 5.0
"""How long one `ip` may take."""
_FD_MTU = 72
_RATE_TOLERANCE, _SAMPLE_TOLERANCE = 0.01, 0.03
"""The kernel takes the nearest bit rate and sample point that the controller's clock allows."""
_STATES = {
    "ERROR-ACTIVE": BusState.ERROR_ACTIVE,
    "ERROR-WARNING": BusState.ERROR_WARNING,
    "ERROR-PASSIVE": BusState.ERROR_PASSIVE,
    "BUS-OFF": BusState.BUS_OFF,
}


class LinkError(Exception):
    """An interface is not as it should be. Names the interface, and the command that would put it right."""


@dataclass(frozen=True, slots=True)
class Link:
    """A CAN interface as it is. Bit rates in bit/s; None: not set, or not told."""

    name: str
    kind: str
    """"can" with a controller; "vcan", "vxcan"; empty when it is not told."""
    up: bool
    mtu: int
    bitrate: int | None = None
    sample_point: float | None = None
    data_bitrate: int | None = None
    data_sample_point: float | None = None
    modes: frozenset[str] = frozenset()
    """As ip writes them: "LISTEN-ONLY", "FD", ..."""
    restart_ms: int = 0
    state: BusState | None = None
    tx_errors: int = 0
    rx_errors: int = 0
    bitrates: tuple[int, ...] = ()
    """Those that the controller can do; empty: any."""


def prepare(config: CanConfig) -> Link | None:
    """Sets a SocketCAN interface up as configured, or checks it. None when nothing is asked, and ip tells nothing.

    Raises LinkError.
    """
    try:
        link = show(config.channel)
    except LinkError:
        if _asks_for_set_up(config):
            raise
        return None
    command = set_up_command(link, config)
    if command is None:
        return link
    _change(command)
    return show(config.channel)


def restart(channel: str) -> None:
    """Restarts a controller that is bus-off. Raises LinkError."""
    _change(["ip", "link", "set", "dev", channel, "type", "can", "restart"])


def show(channel: str) -> Link:
    """The interface as it is. Raises LinkError."""
    return parse(_run(["ip", "-details", "-json", "link", "show", "dev", channel]), channel)


def parse(text: str, channel: str) -> Link:
    """The answer of ``ip -details -json link show``. Raises LinkError when it is none, or the interface no CAN one."""
    try:
        shown = json.loads(text)[0]
        flags, mtu, kind = shown["flags"], int(shown["mtu"]), shown["link_type"]
        info = shown.get("linkinfo", {})
        data = info.get("info_data", {})
        timing, fast = data.get("bittiming", {}), data.get("data_bittiming", {})
        counters = data.get("berr_counter", {})
        link = Link(
            name=channel,
            kind=info.get("info_kind", ""),
            up="UP" in flags,
            mtu=mtu,
            bitrate=timing.get("bitrate") or data.get("bittiming_bitrate") or None,
            sample_point=_number(timing.get("sample_point")),
            data_bitrate=fast.get("bitrate") or data.get("data_bittiming_bitrate") or None,
            data_sample_point=_number(fast.get("sample_point")),
            modes=frozenset(data.get("ctrlmode", ())),
            restart_ms=data.get("restart_ms", 0),
            state=_STATES.get(data.get("state", "")),
            tx_errors=counters.get("tx", 0),
            rx_errors=counters.get("rx", 0),
            bitrates=tuple(data.get("bitrate_const", ())),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LinkError(f"ip tells nothing sensible about {channel}: {text.strip()[:200] or 'nothing'}") from error
    if kind != "can":
        raise LinkError(f"{channel} is no CAN interface but one of type {kind}")
    return link


def set_up_command(link: Link, config: CanConfig) -> list[str] | None:
    """What would set the interface up as configured; None when it is as it should be.

    Raises LinkError when it cannot become so, or is in use with other values.
    """
    if link.kind != "can":
        if config.fd and link.mtu < _FD_MTU:
            raise _wrong(link, "takes classic frames only", f"sudo ip link set dev {link.name} mtu {_FD_MTU}")
        return None
    if config.bitrate is not None and link.bitrates and config.bitrate not in link.bitrates:
        rates = ", ".join(map(str, link.bitrates))
        raise LinkError(f"{link.name} cannot do bitrate {config.bitrate}; it can do {rates} bit/s")
    command = ["ip", "link", "set", "dev", link.name, "up", "type", "can", *_settings(config)]
    if not link.up:
        if config.bitrate is None:
            up = f"sudo ip link set dev {link.name} up"
            if link.bitrate is None:
                up += " type can bitrate 500000"
            raise LinkError(f"{link.name} is down; give bitrate, so that the agent sets it up, or run: {up}")
        return command
    if found := _differences(link, config):
        down = ["ip", "link", "set", "dev", link.name, "down"]
        text = f"is up with {', '.join(found)}; it is left alone, since others may be using it"
        raise _wrong(link, text, f"sudo {shlex.join(down)} && sudo {shlex.join(command)}")
    return None


def _settings(config: CanConfig) -> list[str]:
    words: list[str] = []
    for name, value in (
        ("bitrate", config.bitrate),
        ("sample-point", config.sample_point),
        ("dbitrate", config.data_bitrate),
        ("dsample-point", config.data_sample_point),
    ):
        if value is not None:
            words += [name, f"{value}"]
    words += ["fd", "on" if config.fd else "off", "listen-only", "on" if config.listen_only else "off"]
    return words if config.restart_ms is None else [*words, "restart-ms", str(config.restart_ms)]


def _differences(link: Link, config: CanConfig) -> list[str]:
    """What the interface has that the configuration does not want, in words."""
    found = []
    for name, has, wants, tolerance in (
        ("bitrate", link.bitrate, config.bitrate, _RATE_TOLERANCE * (config.bitrate or 0)),
        ("sample point", link.sample_point, config.sample_point, _SAMPLE_TOLERANCE),
        ("data bitrate", link.data_bitrate, config.data_bitrate, _RATE_TOLERANCE * (config.data_bitrate or 0)),
        ("data sample point", link.data_sample_point, config.data_sample_point, _SAMPLE_TOLERANCE),
        ("restart-ms", link.restart_ms, config.restart_ms, 0),
    ):
        # A controller that takes certain bit rates only tells no sample point: there is none to choose.
        if wants is None or (has is None and name.endswith("sample point")):
            continue
        if has is None or abs(has - wants) > tolerance:
            found.append(f"{name} {has if has is not None else 'unset'} instead of {wants}")
    if config.fd and "FD" not in link.modes:
        found.append("CAN FD off instead of on")
    if config.listen_only != ("LISTEN-ONLY" in link.modes):
        found.append("listen-only mode " + ("off instead of on" if config.listen_only else "on instead of off"))
    return found


def _asks_for_set_up(config: CanConfig) -> bool:
    return config.listen_only or config.bitrate is not None or config.restart_ms is not None


def _change(command: Sequence[str]) -> None:
    try:
        _run(command)
    except LinkError as error:
        if "not permitted" not in str(error):
            raise
        needs = "setting an interface up needs CAP_NET_ADMIN, which the agent does not have"
        raise LinkError(f"{needs}; run: sudo {shlex.join(command)}") from None


def _run(command: Sequence[str]) -> str:
    words = shlex.join(command)
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, no shell
            command, capture_output=True, text=True, timeout=_IP_S, check=False, env=_environment()
        )
    except FileNotFoundError:
        raise LinkError(f"ip (package iproute2) is not installed; it is needed for: {words}") from None
    except subprocess.TimeoutExpired:
        raise LinkError(f"`{words}` did not end within {_IP_S:g} s") from None
    except OSError as error:
        raise LinkError(f"`{words}` cannot be run: {error}") from error
    if done.returncode:
        reason = re.sub(r"^(RTNETLINK answers|Error): ", "", done.stderr.strip()) or f"exit {done.returncode}"
        raise LinkError(f"`{words}` failed: {reason}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Messages in English, and the folders where ip may be, which not every user has in their path."""
    return {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def _number(value: Any) -> float | None:
    """Older versions of ip write sample points as text. Raises ValueError."""
    return float(value) if value is not None else None


def _wrong(link: Link, what: str, command: str) -> LinkError:
    return LinkError(f"{link.name} {what}; to change it: {command}")
