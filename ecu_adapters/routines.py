"""Routines of an ECU: what RoutineControl starts, stops and asks the results of, with which parameters."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ecu_adapters.dids import Access
from ecu_adapters.records import Fields
from ecu_adapters.yaml_file import field_error, model_error


class Step(BaseModel):
    """One sub-function of RoutineControl on a routine."""

    model_config = ConfigDict(extra="forbid")

    options: Fields = Field(default=[], description="what the request carries after the identifier")
    status: Fields = Field(default=[], description="what the response carries after the identifier")


class Routine(BaseModel):
    """One routine. A sub-function that is not described is one that the routine does not have."""

    model_config = ConfigDict(extra="forbid")

    id: int = Field(ge=0, le=0xFFFF)
    access: Access = Access()
    start: Step | None = Step()
    stop: Step | None = None
    results: Step | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.start is self.stop is self.results is None:
            raise model_error("routine", [field_error(("start",), "the routine has no sub-function at all")])
        return self
