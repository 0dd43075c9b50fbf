import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.model.selector import Operator, Selector, SelectorError, Term, obstacle, parse

_ends = string.ascii_letters + string.digits
names = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(_ends),
    st.text(_ends + "-_.", max_size=12),
    st.sampled_from(_ends),
)
keys = names | st.builds("{}/{}".format, st.sampled_from(["example.com", "lab"]), names)
terms = st.one_of(
    st.builds(Term, keys, st.just(Operator.EXISTS)),
    st.builds(Term, keys, st.just(Operator.ABSENT)),
    st.builds(
        Term,
        keys,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.sets(names, min_size=1, max_size=4).map(lambda values: tuple(sorted(values))),
    ),
)
selectors = st.lists(terms, max_size=5).map(lambda found: Selector(tuple(found)))
labels = st.dictionaries(keys, names, max_size=5)


@given(selectors)
def test_what_is_printed_is_read_back(selector: Selector) -> None:
    assert parse(str(selector)) == selector


@given(selectors, st.data())
def test_space_between_the_parts_means_nothing(selector: Selector, data: st.DataObject) -> None:
    text = str(selector)
    for symbol in (",", "(", ")", "!=", "="):
        space = data.draw(st.sampled_from(["", " ", "\t "]))
        text = text.replace(symbol, f"{space}{symbol}{space}" if symbol != "=" else symbol)
    assert parse(f" {text} " if text else "  ") == selector


@given(st.text(max_size=40) | st.text("ab=!(),in not\t", max_size=30))
def test_every_text_is_a_selector_or_has_a_mistake_at_a_column(text: str) -> None:
    try:
        parse(text)
    except SelectorError as error:
        assert 1 <= error.column <= len(text) + 1
        assert str(error) == f"column {error.column}: {error.message}"


@given(selectors, st.sampled_from(["=", ")", "a b", "%", "-x"]))
def test_the_column_points_at_the_first_mistake(selector: Selector, mistake: str) -> None:
    start = str(selector)
    text = f"{start},{mistake}" if start else mistake
    with pytest.raises(SelectorError) as caught:
        parse(text)
    inside = text.index(mistake, len(start)) + (2 if mistake == "a b" else 0)
    assert caught.value.column == inside + 1


@given(selectors, labels)
def test_a_selector_matches_when_every_term_does(selector: Selector, found: dict[str, str]) -> None:
    assert selector.matches(found) == all(parse(str(term)).matches(found) for term in selector.terms)


@given(keys, names, labels)
def test_inequality_is_the_opposite_of_equality(key: str, value: str, found: dict[str, str]) -> None:
    assert parse(f"{key}!={value}").matches(found) != parse(f"{key}={value}").matches(found)
    assert parse(f"{key} notin ({value})").matches(found) != parse(f"{key} in ({value})").matches(found)
    assert parse(f"!{key}").matches(found) != parse(key).matches(found)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("platform=meb,", 14, "a term is missing"),
        (",a", 1, "expected a label name"),
        ("a==b=c", 5, "expected ','"),
        ("a in b", 6, "expected '('"),
        ("a in (b", 8, "expected ',' or ')'"),
        ("a in ()", 7, "expected a label value"),
        ("a notin (b,,c)", 12, "expected a label value"),
        ("a is b", 3, "'in'"),
        ("a=-b", 3, "no label value"),
        ("a=b,Bad.Prefix/x", 5, "no label prefix"),
        ("example.com/-x=1", 13, "no label name"),
        ("a>3", 2, "expected ','"),
        ("!", 2, "expected a label name"),
    ],
)
def test_mistakes_are_named_at_their_column(text: str, column: int, words: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert caught.value.column == column
    assert words in caught.value.message


BENCHES = {
    "bench-1": {"name": "bench-1", "platform": "meb", "fast": "yes"},
    "bench-2": {"name": "bench-2", "platform": "mqb"},
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("platform=pq35", ["'platform=pq35'", "'meb', 'mqb'"]),
        ("name=bench-9", ["'name=bench-9'", "'bench-1', 'bench-2'"]),
        ("colour", ["'colour'", "no bench has the label", "'fast', 'name', 'platform'"]),
        ("!platform", ["'!platform'", "every bench has"]),
        ("platform=mqb,fast=yes", ["together", "bench-1", "'platform=mqb'"]),
    ],
)
def test_an_obstacle_names_the_term_in_the_way(text: str, words: list[str]) -> None:
    reason = obstacle(parse(text), BENCHES)
    assert reason is not None
    assert all(word in reason for word in words), reason


def test_no_obstacle_where_a_bench_matches_and_a_plain_word_where_none_exists() -> None:
    assert obstacle(parse("platform in (meb, pq35), !broken"), BENCHES) is None
    assert "knows no bench yet" in str(obstacle(parse(""), {}))
