"""Quantities as Kubernetes writes them: ``100m``, ``512Mi``, ``1.5``."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

_PATTERN = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000**power) for power, suffix in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{suffix: Decimal(1024**power) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}


def amount(text: str) -> Decimal:
    """How much it is, in cores or bytes. Raises ValueError."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("expected a quantity such as 500m, 1.5, 512Mi or 2Gi")
    return Decimal(match[1]) * _FACTORS[match[2] or ""]


def _valid(text: str) -> str:
    if not amount(text):
        raise ValueError("expected more than nothing")
    return text


Quantity = Annotated[str, AfterValidator(_valid)]
