"""What a storm has shown goes into the page's table, and nothing else of the page changes."""

from pathlib import Path

from tests.chaos.report import publish
from tests.chaos.storm import Outcome

OUTCOME = Outcome(
    blows=7,
    seconds=20.0,
    up_s=20.0,
    requests=90,
    requests_up=90,
    answered=90,
    unanswered=0,
    leases=8,
    calls=9,
    longest_away_s=0.0,
    killed_in_start=0,
    violations=[],
)


def test_a_row_is_replaced_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- outcomes -->\n\n## Later\n\nMore <!-- of it -->\n")
    storms = {"hail": "it hailed.", "rain": "it rained."}
    publish(page, {"rain": OUTCOME}, storms)
    first = page.read_text()
    assert "| it rained | 7 | 4 requests/s sent, 4 answered, for 20 s | 90 |" in first
    publish(page, {"hail": OUTCOME}, storms)
    second = page.read_text()
    rows = [line for line in second.splitlines() if line.endswith(" -->") and line.startswith("| it ")]
    assert [row.split(" | ")[0] for row in rows] == ["| it hailed", "| it rained"]
    for text in (first, second):
        assert text.startswith("# Page\n\n<!-- outcomes -->\n")
        assert text.endswith(" -->\n\n## Later\n\nMore <!-- of it -->\n")
