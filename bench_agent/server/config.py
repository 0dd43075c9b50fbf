"""The agent's YAML file.

Mistakes in the file itself keep the agent from starting. What a bench refers to (a DBC, an ECU's description, a CAN
interface) may be missing or broken without harm to the other benches: `check` finds these too, `serve` makes the one
bench unhealthy.
"""

import codecs
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import InitErrorDetails

from ecu_adapters import yaml_file
from ecu_adapters.can_config import CanConfig
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.power.config import AnySupply
from ecu_adapters.serial_port import SerialConfig
from ecu_adapters.simulator.doip_network import DoIpNetwork
from ecu_adapters.yaml_file import ConfigError, Mistake, field_error, model_error, nearest
from runners import launch

NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_RESERVED_LABEL = "name"
_CHECK_S = 30.0
"""How long the check of a hook may take."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` (IPv6: ``[::1]:8480``). Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535 or (":" in host and host[0] != "["):
        raise ValueError("expected host:port, for example 127.0.0.1:8480")
    return host, int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


def _remote(value: str) -> str:
    if split_address(value)[1] == 0:
        raise ValueError("port 0 is nothing that anybody could dial")
    return value


def _split(value: object) -> object:
    """The addresses in ``a:8471,b:8471``, or in a list; anything else as it is, for pydantic to refuse."""
    return [address.strip() for address in value.split(",")] if isinstance(value, str) else value


def _remotes(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for number, address in enumerate(addresses):
        try:
            _remote(address)
        except ValueError as error:
            raise ValueError(f"{address!r}: {error}") from None
        if address in addresses[:number]:
            raise ValueError(f"{address} is given twice")
    return addresses


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Traces(_Part):
    """Bus traces kept per lease."""

    formats: list[Literal["blf", "candump"]] = Field(
        default=["blf"], min_length=1, max_length=2, description="what is written; any is fetched"
    )
    keep: Literal["newest", "oldest"] = Field(
        default="newest", description="of a trace that reaches its bounds; the rest is counted"
    )
    max_file_mb: int = Field(default=64, ge=1, le=100_000, description="of one bus in one lease, all formats together")
    max_duration_s: float | None = Field(
        default=None, ge=1, le=31_536_000, description="of one bus in one lease; null: as long as the lease"
    )
    max_total_mb: int = Field(default=1024, ge=1, le=10_000_000, description="beyond it, the oldest leases' traces go")
    max_age_days: float | None = Field(
        default=None, gt=0, le=36_500, description="traces of leases that ended earlier go; null: none for its age"
    )

    @field_validator("formats")
    @classmethod
    def _formats_differ(cls, formats: list[str]) -> list[str]:
        if len(set(formats)) != len(formats):
            raise ValueError("each format is given once")
        return formats


class Metrics(_Part):
    """What the agent measures, and keeps until labd has it."""

    interval_s: float = Field(default=10, ge=0.1, le=3600, description="s, from one point of a series to the next")
    spool_mb: int = Field(
        default=64, ge=1, le=100_000, description="of points that wait while labd is away; beyond it, the oldest go"
    )
    listen: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None,
        description="host:port where Prometheus fetches figures, by plain HTTP at /metrics; null: nowhere",
    )


class AgentSettings(_Part):
    """The process itself."""

    name: str = Field(pattern=NAME, description="stable; labd knows the agent by it")
    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8480"
    advertise: Annotated[str, AfterValidator(_remote)] | None = Field(
        default=None, description="host:port at which lease holders reach this agent; null: as it listens"
    )
    labd: Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_remotes)] = Field(
        default=("127.0.0.1:8471",),
        min_length=1,
        max_length=32,
        description="host:port of labd's door for agents; several labds as a list, or with commas",
    )
    data_dir: Path
    traces: Traces = Traces()
    metrics: Metrics = Metrics()


class BusConfig(CanConfig):
    """One CAN bus of a bench."""

    name: str = Field(pattern=NAME)
    dbc: Path | None = Field(default=None, description="DBC, KCD, ARXML or SYM file")


class EcuConfig(_Part):
    """One diagnostic ECU of a bench."""

    file: Path = Field(description="the ECU's description")
    bus: str | None = Field(default=None, description="the CAN bus that it is on; null: it is reached by DoIP alone")
    diagnostics: Literal["can", "doip"] | None = Field(
        default=None, description="the way to it; null: doip, where its description has that section, else can"
    )
    simulated: bool = Field(default=False, description="the agent plays the ECU itself")


def _encoding(value: str) -> str:
    try:
        name = codecs.lookup(value).name
    except LookupError:
        raise ValueError(f"unknown encoding {value!r}; for example utf-8, ascii, latin-1 or cp437") from None
    if "\n".encode(name) != b"\n":
        raise ValueError(f"{value!r} is no encoding of a console: a line feed must be the byte 0A")
    return name


class ConsoleConfig(SerialConfig):
    """One serial console of a bench."""

    name: str = Field(pattern=NAME)
    newline: Literal["\n", "\r", "\r\n"] = Field(default="\n", description="what ends a line that is sent")
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(default="utf-8", description="of its text")

    @property
    def line(self) -> SerialConfig:
        """The port alone."""
        return SerialConfig.model_construct(**{name: getattr(self, name) for name in SerialConfig.model_fields})


class HookConfig(_Part):
    """A Lua script that the agent itself runs on the bench."""

    script: Path
    files: list[Path] = Field(
        default=[], max_length=256, description="what the script names, such as an image; relative to its folder"
    )
    timeout_s: float = Field(default=60, gt=0, le=600, description="s; the hook is killed after it")
    on_failure: Literal["warn", "fail_lease", "quarantine"] = Field(
        default="quarantine",
        description="warn: the bench goes on, and shows it; fail_lease: the lease ends before its first call; "
        "quarantine: nobody gets the bench until somebody has looked at it",
    )


class Hooks(_Part):
    """What the agent does before a lease's first call, and after its clean-up."""

    before_lease: HookConfig | None = None
    after_lease: HookConfig | None = None

    @field_validator("after_lease")
    @classmethod
    def _lease_is_over(cls, hook: HookConfig | None) -> HookConfig | None:
        if hook is not None and hook.on_failure == "fail_lease":
            raise ValueError("on_failure is 'fail_lease', but the lease is over by then; warn or quarantine")
        return hook


class AdapterConfig(_Part):
    """A device that a driver of the lab's own operates."""

    name: str = Field(pattern=NAME)
    driver: str = Field(min_length=1, description="entry point of the group labd.adapters")
    settings: dict[str, Any] = Field(default={}, description="what the driver's own configuration model takes")


class BenchConfig(_Part):
    """One bench."""

    name: str = Field(pattern=NAME)
    labels: dict[str, str] = {}
    can: list[BusConfig] = Field(min_length=1)
    ecus: list[EcuConfig] = []
    consoles: list[ConsoleConfig] = []
    power: list[AnySupply] = []
    adapters: list[AdapterConfig] = []
    hooks: Hooks = Hooks()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors: list[InitErrorDetails] = []
        for key, value in self.labels.items():
            if key == _RESERVED_LABEL:
                errors.append(field_error(("labels", key), "is reserved: every bench has its own name under it"))
            elif not _LABEL_KEY.fullmatch(key):
                errors.append(
                    field_error(("labels", key), "is no label key: letters, digits and -_. within, at most 63")
                )
            if not _LABEL_VALUE.fullmatch(value):
                message = f"{value!r} is no label value: letters, digits and -_. within, at most 63"
                errors.append(field_error(("labels", key), message))
        buses = [bus.name for bus in self.can]
        errors += _repeated("can", buses)
        errors += _repeated("consoles", [console.name for console in self.consoles])
        errors += _repeated("power", [supply.name for supply in self.power])
        errors += _repeated_channels(self.power)
        errors += _repeated("adapters", [adapter.name for adapter in self.adapters])
        for index, ecu in enumerate(self.ecus):
            if ecu.bus is None:
                continue
            if ecu.bus not in buses:
                message = f"unknown bus {ecu.bus!r}; {nearest(ecu.bus, set(buses))}"
                errors.append(field_error(("ecus", index, "bus"), message))
            elif ecu.simulated and self.can[buses.index(ecu.bus)].listen_only:
                message = f"bus {ecu.bus} is only listened to; a simulated ECU could not answer on it"
                errors.append(field_error(("ecus", index, "bus"), message))
        if errors:
            raise model_error("bench", errors)
        return self


class AgentConfig(_Part):
    """The whole file."""

    agent: AgentSettings
    benches: list[BenchConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_unique(self) -> Self:
        errors = _repeated("benches", [bench.name for bench in self.benches])
        if errors:
            raise model_error("agent", errors)
        return self


def load(path: Path) -> AgentConfig:
    """Reads the file; paths in it become absolute. Raises ConfigError with all mistakes at once."""
    return _resolve(yaml_file.load(path, AgentConfig), path)


def check(path: Path) -> list[Mistake]:
    """All mistakes of the file and of the DBC and ECU files that it names, none of which needs the hardware."""
    try:
        file = yaml_file.YamlFile(path)
        config = _resolve(file.validate(AgentConfig), path)
    except ConfigError as error:
        return error.mistakes
    mistakes: list[Mistake] = []
    for number, bench in enumerate(config.benches):
        for problem in _reference_problems(bench):
            if isinstance(problem, ConfigError):
                mistakes += problem.mistakes
            else:
                mistakes.append(file.mistake(("benches", number, *problem.place), problem.message))
    return sorted(set(mistakes), key=lambda mistake: (mistake.file, mistake.line, mistake.field))


def notes(config: AgentConfig) -> list[str]:
    """What the ECUs' descriptions say that the agent cannot use. Raises ConfigError."""
    found = []
    for path in sorted({ecu.file for bench in config.benches for ecu in bench.ecus}):
        description = load_ecu(path)
        found += [f"{path}: not taken from {description.description}: {what}" for what in description.unmapped]
    return found


def chosen_way(config: EcuConfig, ecu: EcuDescription) -> EcuDescription:
    """The description as the bench uses it: with a section ``doip`` only when its diagnostics go that way.

    Raises ValueError when the bench asks for a way that the description does not have, or names no bus where one is
    needed.
    """
    way = config.diagnostics or ("can" if ecu.doip is None else "doip")
    if way == "doip" and ecu.doip is None:
        raise ValueError(f"diagnostics is doip, but the description of {ecu.name} has no section doip")
    if way == "can":
        ecu = ecu.over_can()
    if config.bus is None:
        if way == "can":
            raise ValueError(f"bus is missing: ECU {ecu.name} is reached over CAN")
        if config.simulated and ecu.cyclic:
            raise ValueError(f"bus is missing: the simulated ECU {ecu.name} sends {ecu.cyclic[0].message}")
    return ecu


@dataclass(frozen=True, slots=True)
class _Problem:
    place: tuple[int | str, ...]
    message: str


def _reference_problems(bench: BenchConfig) -> list[_Problem | ConfigError]:
    problems: list[_Problem | ConfigError] = []
    for index, bus in enumerate(bench.can):
        if bus.dbc is not None:
            try:
                Database.load(bus.dbc)
            except DatabaseError as error:
                problems.append(_Problem(("can", index, "dbc"), str(error)))
    names: dict[str, int] = {}
    behind: dict[tuple[str, int], str] = {}
    network = DoIpNetwork()
    for index, ecu in enumerate(bench.ecus):
        try:
            description = load_ecu(ecu.file)
        except ConfigError as error:
            problems.append(_Problem(("ecus", index, "file"), f"{ecu.file} has mistakes or cannot be read"))
            problems.append(error)
            continue
        try:
            description = chosen_way(ecu, description)
            if ecu.simulated:
                network.add(description)
        except ValueError as error:
            problems.append(_Problem(("ecus", index), str(error)))
        if (doip := description.doip) is not None:
            taken = behind.setdefault((doip.place, doip.logical_address), description.name)
            if taken != description.name:
                message = f"doip.logical_address 0x{doip.logical_address:04X} at {doip.place} is {taken} already"
                problems.append(_Problem(("ecus", index, "file"), message))
        if description.name in names:
            message = f"ECU {description.name} is there already (ecus.{names[description.name]})"
            problems.append(_Problem(("ecus", index, "file"), message))
        names.setdefault(description.name, index)
    for name, hook in bench.hooks:
        fault = _syntax_fault(hook.script) if hook is not None else None
        if fault is not None:
            problems.append(_Problem(("hooks", name, "script"), fault))
        for index, file in enumerate(hook.files if hook is not None else ()):
            if not (hook.script.parent / file).is_file():
                problems.append(_Problem(("hooks", name, "files", index), f"there is no file {file} beside the script"))
    return problems


def _syntax_fault(script: Path) -> str | None:
    """Why a hook's script cannot run. Lua is not the agent's business: the process that would run it looks."""
    command = [*launch.COMMAND, "check", str(script)]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no shell
            command, capture_output=True, text=True, timeout=_CHECK_S, check=False, env=launch.environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{script} cannot be checked: {error}"
    return None if done.returncode == 0 else (done.stdout or done.stderr).strip()


def _resolve(config: AgentConfig, path: Path) -> AgentConfig:
    base = path.resolve().parent
    config.agent.data_dir = base / config.agent.data_dir
    for bench in config.benches:
        for bus in bench.can:
            bus.dbc = base / bus.dbc if bus.dbc is not None else None
        for ecu in bench.ecus:
            ecu.file = base / ecu.file
        for _, hook in bench.hooks:
            if hook is not None:
                hook.script = base / hook.script
    return config


def _repeated(field: str, names: list[str]) -> list[InitErrorDetails]:
    return [
        field_error((field, index, "name"), f"{name!r} is given twice; names must differ")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _repeated_channels(supplies: Sequence[AnySupply]) -> list[InitErrorDetails]:
    """Channels are asked for by name, whatever supply they belong to."""
    owners: dict[str, str] = {}
    errors = []
    for index, supply in enumerate(supplies):
        for name in supply.channels:
            if name in owners:
                message = f"supply {owners[name]} has a channel {name!r} already; names must differ"
                errors.append(field_error(("power", index, "channels", name), message))
            owners.setdefault(name, supply.name)
    return errors
