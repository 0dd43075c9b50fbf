"""The commands of SCPI supplies, one table per way of addressing channels.

SCPI-1999 volume 2 names the subsystems (OUTPut, SOURce, MEASure, INSTrument, SYSTem); how a channel is chosen differs
between makers. ``{output}`` is the channel's number, ``{value}`` what is set.
"""

from pydantic import BaseModel, ConfigDict


class ScpiCommands(BaseModel):
    """What a supply is told and asked; null is what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    select: str | None = None
    """Sent before every other command on a channel."""
    on: str = "OUTP ON"
    off: str = "OUTP OFF"
    state: str | None = "OUTP?"
    voltage: str | None = "VOLT {value:.4f}"
    current: str | None = "CURR {value:.4f}"
    measure_voltage: str | None = "MEAS:VOLT?"
    measure_current: str | None = "MEAS:CURR?"
    error: str | None = "SYST:ERR?"
    """Asked after every command, until the queue is empty (SCPI-1999 volume 2, 21.8)."""


DIALECTS = {
    # One output, or none to choose from: SCPI-1999 as it stands.
    "scpi": ScpiCommands(),
    # A channel is chosen first: INSTrument:NSELect (SCPI-1999 volume 2, 9.3).
    "nsel": ScpiCommands(select="INST:NSEL {output}"),
    # A channel list behind each command: SCPI-1999 volume 1, 8.3.2.
    "channel-list": ScpiCommands(
        on="OUTP ON,(@{output})",
        off="OUTP OFF,(@{output})",
        state="OUTP? (@{output})",
        voltage="VOLT {value:.4f},(@{output})",
        current="CURR {value:.4f},(@{output})",
        measure_voltage="MEAS:VOLT? (@{output})",
        measure_current="MEAS:CURR? (@{output})",
    ),
    # RIGOL DP800 programming guide: channels by name, sources by number.
    "rigol": ScpiCommands(
        on=":OUTP CH{output},ON",
        off=":OUTP CH{output},OFF",
        state=":OUTP? CH{output}",
        voltage=":SOUR{output}:VOLT {value:.4f}",
        current=":SOUR{output}:CURR {value:.4f}",
        measure_voltage=":MEAS:VOLT? CH{output}",
        measure_current=":MEAS:CURR? CH{output}",
        error=":SYST:ERR?",
    ),
}
