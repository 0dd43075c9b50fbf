import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DatabaseError, IntegrityError

from labd.model.audit import (
    GENESIS,
    PRUNED,
    START,
    ChainBroken,
    Deed,
    Entry,
    Fault,
    Head,
    Verifier,
    canonical,
    gaps_in,
    gaps_told,
    link,
)
from labd.model.identity import ANONYMOUS, Actor, ActorKind
from labd.services.anchor import Anchor
from labd.services.auditing import Auditing
from labd.services.lab import Lab
from labd.store.errors import DatabaseCorrupt
from labd.store.schema import WRITE
from labd.store.untold import append_audit
from tests.unit.labd.fakes import FakeClock, application, attach, report

ADA = Actor("ada", ActorKind.PERSON)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.none() | st.dictionaries(st.text(max_size=5), JSON, max_size=3)
DEEDS = st.builds(
    Deed,
    time=st.floats(0, 4e9),
    actor=st.text(max_size=5),
    kind=st.sampled_from(["person", "system"]),
    team=st.text(max_size=5),
    action=st.sampled_from(["lease.granted", "run.created", "bench.drained"]),
    subject=st.text(max_size=5),
    before=OBJECTS,
    after=OBJECTS,
    why=st.text(max_size=5),
)


def _check(
    entries: list[Entry], head: Head | None, *, checkpoint: Head | None = None, expected: Head | None = None
) -> Head:
    verifier = Verifier(head, checkpoint, *([] if expected is None else [expected]))
    for entry in entries:
        verifier.take(entry)
    return verifier.finish()


def _fault(entries: list[Entry], head: Head | None, **more: Head | None) -> tuple[Fault, int]:
    with pytest.raises(ChainBroken) as caught:
        _check(entries, head, **more)
    return caught.value.fault, caught.value.seq


def _deeds(count: int) -> list[Deed]:
    return [Deed(float(number), "ada", "person", "", "run.created", f"run/{number}") for number in range(count)]


def _rehashed(entry: Entry, **changes: Any) -> Entry:
    """An entry altered by somebody who knows how the hash is made."""
    (forged,) = link(Head(entry.seq - 1, entry.previous), [replace(entry.deed, **changes)])
    return forged


# The form that is hashed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # RFC 8785, appendix B and 3.2.3
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (333333333.33333329, "333333333.3333333"),
        (4.50, "4.5"),
        (1e30, "1e+30"),
        ({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "ö": 7},
         '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"😀":5,"\ufb33":3}'),
        ('\u20ac$\x0f\nA\'B"\\\\"/', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
    ],
)  # fmt: skip
def test_the_canonical_form_is_that_of_rfc_8785(value: Any, text: str) -> None:
    assert canonical(value) == text


@given(JSON)
def test_the_canonical_form_survives_the_database(value: Any) -> None:
    text = canonical(value)
    assert canonical(json.loads(text)) == text


@pytest.mark.parametrize("value", [{"key": object()}, b"bytes", {1, 2}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no JSON value"):
        canonical(value)


# The chain


@given(st.lists(DEEDS, max_size=8))
def test_what_was_written_is_sound(deeds: list[Deed]) -> None:
    entries = link(START, deeds)
    head = entries[-1].head if entries else START
    assert _check(entries, head) == head


@given(st.lists(DEEDS, min_size=1, max_size=8), st.data())
def test_any_altered_row_is_found_and_named(deeds: list[Deed], data: st.DataObject) -> None:
    entries = link(START, deeds)
    head = entries[-1].head
    at = data.draw(st.integers(0, len(entries) - 1))
    victim = entries[at]
    match data.draw(st.sampled_from(["deed", "previous", "hash", "rehashed", "relinked"])):
        case "deed":
            forged = replace(victim, deed=data.draw(DEEDS.filter(lambda deed: not _same(deed, victim.deed))))
        case "previous":
            forged = replace(victim, previous="f" * 64)
        case "hash":
            forged = replace(victim, hash="f" * 64)
        case "rehashed":
            forged = _rehashed(victim, why=f"{victim.deed.why}!")
        case _:
            (forged,) = link(Head(victim.seq - 1, "f" * 64), [victim.deed])
    assert _fault([*entries[:at], forged, *entries[at + 1 :]], head) == (Fault.ALTERED, victim.seq)


def _same(one: Deed, other: Deed) -> bool:
    return canonical(link(START, [one])[0].record) == canonical(link(START, [other])[0].record)


@given(st.integers(1, 8), st.data())
def test_removed_rows_are_found_and_named(count: int, data: st.DataObject) -> None:
    entries = link(START, _deeds(count))
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    fault = Fault.CUT_OFF if last == count - 1 else Fault.REMOVED
    assert _fault(entries[:first] + entries[last + 1 :], entries[-1].head) == (fault, first + 1)


@given(st.integers(1, 8), st.data())
def test_removed_rows_are_found_when_the_rest_is_renumbered(count: int, data: st.DataObject) -> None:
    entries = link(START, _deeds(count + 1))
    at = data.draw(st.integers(0, count - 1))
    renumbered = [replace(entry, seq=entry.seq - 1) for entry in entries[at + 1 :]]
    assert _fault(entries[:at] + renumbered, replace(entries[-1].head, seq=count)) == (Fault.ALTERED, at + 1)


def test_inserted_rows_are_found() -> None:
    entries = link(START, _deeds(3))
    head = entries[-1].head
    appended = link(head, _deeds(1))
    assert _fault(entries + appended, head) == (Fault.INSERTED, 4)
    pushed_in = [
        *entries[:1],
        _rehashed(entries[1], why="new"),
        *(replace(entry, seq=entry.seq + 1) for entry in entries[1:]),
    ]
    assert _fault(pushed_in, Head(4, head.hash))[0] is Fault.ALTERED
    assert _fault([entries[0], *entries], head) == (Fault.INSERTED, 1)


def test_a_log_without_its_head_is_not_whole() -> None:
    assert _fault(link(START, _deeds(2)), None) == (Fault.CUT_OFF, 3)


def test_a_log_written_anew_is_found_by_who_kept_its_end() -> None:
    true = link(START, _deeds(3))
    forged = link(START, [replace(entry.deed, actor="bob") for entry in true])
    assert _check(forged, forged[-1].head) == forged[-1].head
    assert _fault(forged, forged[-1].head, expected=true[-1].head) == (Fault.ALTERED, 3)
    assert _fault(true[:2], true[1].head, expected=true[-1].head) == (Fault.CUT_OFF, 3)
    assert _check(true, true[-1].head, expected=true[0].head) == true[-1].head


def test_retention_is_no_fault_but_what_passes_for_it_is() -> None:
    entries = link(START, _deeds(4))
    checkpoint = entries[1].head
    pruned = Deed(9.0, "labd", "system", "", PRUNED, "audit", after={"seq": checkpoint.seq, "hash": checkpoint.hash})
    entries += link(entries[-1].head, [pruned])
    head = entries[-1].head
    assert _check(entries[2:], head, checkpoint=checkpoint) == head
    assert _fault(entries[2:], head) == (Fault.REMOVED, 1)
    assert _fault(entries[3:], head, checkpoint=checkpoint) == (Fault.REMOVED, 3)
    assert _fault(entries[1:], head, checkpoint=checkpoint) == (Fault.INSERTED, 2)
    forged = entries[2].head
    assert _fault(entries[3:], head, checkpoint=forged) == (Fault.REMOVED, 1), "no entry says that this was retention"


def _without(entries: list[Entry], numbers: set[int]) -> list[Entry]:
    """What retention leaves when it removes these, with the entry that lists the gaps."""
    gaps = gaps_in([entry for entry in entries if entry.seq in numbers])
    listed = [[gap.first, gap.last, gap.previous] for gap in gaps]
    kept = [entry for entry in entries if entry.seq not in numbers]
    return kept + link(entries[-1].head, [Deed(9.0, "labd", "system", "", PRUNED, "team/a", after={"gaps": listed})])


def _check_with_gaps(entries: list[Entry], head: Head, *expected: Head) -> Head:
    gaps = [gap for entry in entries for gap in gaps_told(entry.deed)]
    verifier = Verifier(head, None, *expected, gaps=gaps)
    for entry in entries:
        verifier.take(entry)
    return verifier.finish()


@given(st.integers(1, 12), st.data())
def test_a_log_with_gaps_is_sound_and_any_other_change_is_found(count: int, data: st.DataObject) -> None:
    numbers = st.sets(st.integers(1, count))
    entries = link(START, _deeds(count))
    heads = [entry.head for entry in entries]
    for _ in range(2):
        removed = data.draw(numbers) & {entry.seq for entry in entries}
        entries = _without(entries, removed)
    head = entries[-1].head
    assert _check_with_gaps(entries, head, data.draw(st.sampled_from(heads))) == head

    place = data.draw(st.integers(0, len(entries) - 1))
    true = entries[place]
    forged = replace(true, deed=replace(true.deed, why="forged"))
    if data.draw(st.booleans()):
        forged = link(Head(true.seq - 1, true.previous), [forged.deed])[0]
    with pytest.raises(ChainBroken) as altered:
        _check_with_gaps([*entries[:place], forged, *entries[place + 1 :]], head)
    assert (altered.value.fault, altered.value.seq) == (Fault.ALTERED, true.seq)
    with pytest.raises(ChainBroken) as gone:
        _check_with_gaps([*entries[:place], *entries[place + 1 :]], head)
    assert gone.value.fault in (Fault.REMOVED, Fault.CUT_OFF)


def test_a_list_of_gaps_that_was_altered_is_no_list() -> None:
    entries = _without(link(START, _deeds(4)), {2})
    last = entries[-1]
    for gaps in ([[2, 3, GENESIS]], "rubbish", [[2]], [[2, 1, entries[0].hash]], 7):
        forged = replace(last, deed=replace(last.deed, after={"gaps": gaps}))
        with pytest.raises(ChainBroken):
            _check_with_gaps([*entries[:-1], forged], last.head)


# The log in labd


@pytest.fixture
def web(lab: Lab) -> Iterator[TestClient]:
    attach(lab, report("bench-1", {"platform": "meb"}))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as client:
        yield client


def _write(lab: Lab, count: int, why: str = "") -> None:
    with lab.core.transaction(ADA) as ledger:
        for number in range(count):
            ledger.audit("bench.drained", f"bench/{number}", before={"on": 1.0}, after={"on": None}, why=why)


@contextmanager
def _behind_labds_back(lab: Lab, *, without_triggers: bool = False) -> Iterator[Callable[[str], object]]:
    """Runs statements in the database itself."""
    database = lab.core.store.database
    with database.engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        if without_triggers and connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        elif without_triggers:
            for trigger in ("audit_no_update", "audit_no_delete"):
                connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        yield connection.exec_driver_sql


def _refused(lab: Lab, statement: str) -> None:
    with pytest.raises(DatabaseError, match="append-only"), _behind_labds_back(lab) as execute:
        execute(statement)


def test_runs_are_on_record_with_who_and_what(web: TestClient) -> None:
    run = web.post("runs", json={"script": "return 1", "holder": "ci"}).json()["id"]
    web.post(f"runs/{run}/cancel")
    page = web.get("audit", params={"subject": f"run/{run}", "oldest_first": True}).json()
    assert [entry["action"] for entry in page["items"]] == ["run.created", "run.cancelled", "run.ended"]
    created, _, ended = page["items"]
    assert (created["actor"], created["kind"], created["after"]["holder"]) == ("anonymous", "person", "ci")
    assert (ended["before"], ended["after"]) == ({"state": "RUNNING"}, {"state": "CANCELLED"})


def test_a_cleared_quarantine_is_on_record_with_the_reason(lab: Lab) -> None:
    attach(lab, replace(report("bench-1", healthy=False, reason="power did not go off"), quarantined=True))
    lab.fleet.clear_quarantine(ANONYMOUS, "bench-1", "relay exchanged")
    with lab.core.view() as unit:
        entry = list(unit.audit_entries())[-1]
    assert (entry.deed.action, entry.deed.subject, entry.deed.why) == (
        "quarantine.cleared",
        "bench/bench-1",
        "relay exchanged",
    )
    assert entry.deed.before == {"reason": "power did not go off"}


def test_what_is_undone_is_not_on_record(lab: Lab) -> None:
    with pytest.raises(ZeroDivisionError), lab.core.transaction(ADA) as ledger:
        ledger.audit("bench.drained", "bench/1")
        raise ZeroDivisionError
    assert lab.auditing.verify().checked == 0


def test_the_log_is_read_in_pages_and_filtered(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    _write(lab, 5)
    clock.advance(60)
    with lab.core.transaction() as ledger:
        ledger.audit("lease.granted", "lease/1", team="chassis")
    first = web.get("audit", params={"limit": 4}).json()
    rest = web.get("audit", params={"limit": 4, "cursor": first["next"]}).json()
    assert [entry["seq"] for entry in first["items"] + rest["items"]] == [6, 5, 4, 3, 2, 1]
    assert rest["next"] is None

    def found(**wanted: str) -> list[int]:
        return [entry["seq"] for entry in web.get("audit", params=wanted).json()["items"]]

    assert found(action="lease") == found(action="lease.granted") == found(team="chassis") == found(actor="labd") == [6]
    assert found(action="lea") == []
    assert found(subject="bench/0") == [1]
    assert found(since="2027-01-15T08:01:00Z") == [6]
    assert found(until="2027-01-15T08:01:00Z") == [5, 4, 3, 2, 1]
    for field, value in (("since", "yesterday"), ("until", "now"), ("cursor", "-1")):
        refused = web.get("audit", params={field: value})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_an_export_can_be_verified_without_labd(web: TestClient, lab: Lab) -> None:
    _write(lab, 3, why="nightly — \u20ac \U0001f600 \0 \ud800")
    previous = GENESIS
    for entry in web.get("audit", params={"oldest_first": True}).json()["items"]:
        digest = entry.pop("hash")
        assert entry["previous"] == previous
        assert digest == hashlib.sha256(canonical(entry).encode()).hexdigest()
        previous = digest


def test_the_database_itself_refuses_to_change_the_log(lab: Lab) -> None:
    _write(lab, 3)
    _refused(lab, "UPDATE audit SET actor = 'bob'")
    _refused(lab, "DELETE FROM audit WHERE seq = 2")
    if lab.core.store.database.engine.dialect.name == "postgresql":
        _refused(lab, "TRUNCATE audit")
    else:
        _refused(lab, "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 2")
    with _behind_labds_back(lab) as execute:
        execute("INSERT INTO audit_checkpoints VALUES (2, 'hash', 0)")
    _refused(lab, "UPDATE audit_checkpoints SET seq = 1")
    _refused(lab, "DELETE FROM audit_checkpoints")
    with _behind_labds_back(lab) as execute:
        execute("DELETE FROM audit WHERE seq <= 2")
    _refused(lab, "DELETE FROM audit")
    verdict = lab.auditing.verify()
    assert (verdict.fault, verdict.seq) == (Fault.ALTERED, 3), "the checkpoint is not that of the chain"


@pytest.mark.parametrize(
    ("statement", "fault", "seq"),
    [
        ("UPDATE audit SET actor = 'bob' WHERE seq = 2", "altered", 2),
        ("UPDATE audit SET after = '{\"on\":1}' WHERE seq = 3", "altered", 3),
        ("UPDATE audit SET after = 'not json' WHERE seq = 3", "altered", 3),
        ("DELETE FROM audit WHERE seq = 2", "removed", 2),
        ("DELETE FROM audit WHERE seq > 3", "cut off", 4),
        ("DELETE FROM audit", "cut off", 1),
        ("INSERT INTO audit SELECT 5, time, actor, kind, team, action, subject, before, after, why, previous, hash "
         "FROM audit WHERE seq = 4", "altered", 5),
        ("DELETE FROM audit_head", "cut off", 5),
    ],
)  # fmt: skip
def test_who_gets_round_the_triggers_is_found_out(
    web: TestClient, lab: Lab, statement: str, fault: str, seq: int
) -> None:
    _write(lab, 4)
    sound = web.get("audit/verify").json()
    assert (sound["sound"], sound["checked"], sound["head"].split(":")[0]) == (True, 4, "4")
    with _behind_labds_back(lab, without_triggers=True) as execute:
        execute(statement)
    verdict = web.get("audit/verify", params={"expected": sound["head"]}).json()
    assert (verdict["sound"], verdict["fault"], verdict["seq"], verdict["head"]) == (False, fault, seq, None)
    assert f"{seq}" in verdict["detail"] or fault == "cut off"


def test_who_cuts_the_log_off_head_and_all_is_found_out_by_what_is_kept_apart(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "audit-head.json"
    auditing = Auditing(lab.core, Anchor(path))
    _write(lab, 4)
    auditing.anchor()
    assert auditing.verify().fault is None
    with _behind_labds_back(lab, without_triggers=True) as execute:
        execute("DELETE FROM audit WHERE seq > 2")
        execute("UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)")
    assert lab.auditing.verify().fault is None, "the database alone does not tell"
    assert (auditing.verify().fault, auditing.verify().seq) == (Fault.CUT_OFF, 3)
    # It is not forgotten when the log has grown again, nor over a restart of labd.
    _write(lab, 9)
    auditing.anchor()
    again = Auditing(lab.core, Anchor(path))
    again.anchor()
    verdict = again.verify()
    assert (verdict.fault, verdict.seq, "written anew" in verdict.detail) == (Fault.ALTERED, 4, True)


def test_what_is_kept_apart_follows_the_log_and_survives_rubbish(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "audit-head.json"
    auditing = Auditing(lab.core, Anchor(path))
    for _ in range(3):
        _write(lab, 2)
        auditing.anchor()
        assert auditing.verify().head == Anchor(path).head
    path.write_text("rubbish")
    rubbish = Auditing(lab.core, Anchor(path))
    assert rubbish.verify().fault is None
    rubbish.anchor()
    assert Anchor(path).head == auditing.verify().head


def test_what_is_kept_apart_goes_on_when_retention_has_removed_it(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "audit-head.json"
    _write(lab, 2)
    Auditing(lab.core, Anchor(path)).anchor()
    for numbers in ([2], [1]):
        with lab.core.transaction(ADA) as ledger:
            ledger.unit.lock_audit()
            _, gaps = ledger.unit.remove_audit(numbers)
            listed = [[gap.first, gap.last, gap.previous] for gap in gaps]
            ledger.audit(PRUNED, "team/a", after={"gaps": listed})
    auditing = Auditing(lab.core, Anchor(path))
    auditing.anchor()
    assert auditing.verify().fault is None
    assert Anchor(path).head == auditing.verify().head


def test_an_expected_end_that_is_none_is_refused(web: TestClient) -> None:
    refused = web.get("audit/verify", params={"expected": "12"})
    assert refused.status_code == 422
    assert "SEQ:HASH" in refused.json()["detail"]


def test_without_its_head_the_log_takes_nothing_and_nothing_is_done(lab: Lab) -> None:
    with _behind_labds_back(lab) as execute:
        execute("DELETE FROM audit_head")
    with pytest.raises(DatabaseCorrupt, match="lost its head"):
        _write(lab, 1)


def test_no_number_is_given_twice(lab: Lab) -> None:
    _write(lab, 1)
    with lab.core.store.read() as unit:
        entries = list(unit.audit_entries())
    with pytest.raises(IntegrityError), lab.core.store.write() as unit:
        append_audit(unit._connection, entries)
