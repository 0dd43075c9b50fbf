"""labd killed with SIGKILL under load, at moments that chance chooses. `make chaos` does the same for minutes."""

from pathlib import Path

import pytest

from tests.chaos.storm import storm, weather

pytestmark = pytest.mark.timeout(900)


def test_what_labd_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    with storm(tmp_path, agents=9) as one:
        outcome = weather(one, one.kill, blows=6, holders=18, rate=60, calm_s=(0.2, 1.5))
    assert outcome.violations == []
    # It was a storm: holders acted on benches, and met no labd at times.
    assert outcome.leases > 20
    assert outcome.calls > 20
    assert outcome.unanswered > 0
