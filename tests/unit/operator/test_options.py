"""The options of `labd operator`: what it refuses before it does anything."""

import pytest
from click.testing import CliRunner

from labd.operator.command import operator


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "Hil_1=blue"], "'Hil_1=blue': expected NAME or NAME=TEAM"),
        (["-n", "=blue"], "'=blue': expected NAME or NAME=TEAM"),
        (["--executor", "process", "--cluster", "here"], "--cluster is where pods are"),
        (["--health", "8472"], "'8472': expected HOST:PORT, such as 127.0.0.1:8472"),
        (["--executor", "pod"], "'pod' is not one of 'kubernetes', 'process', 'bench'"),
        (["--ttl", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_a_mistake_is_told_by_its_name(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(operator, arguments)
    assert (result.exit_code, said in " ".join(result.output.split())) == (2, True), result.output
