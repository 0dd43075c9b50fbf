"""Values and durations on their way between Python and Lua."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa import lua54  # type: ignore[import-untyped]

from scenarios import durations
from scenarios.values import from_hex, from_json, from_lua, to_lua

LUA = lua54.LuaRuntime(encoding=None)
SAME = LUA.eval(b"function(code, expected) return load('return ' .. code)() == expected end")
SHOW = LUA.eval(
    b"""
    function(code)
      local value = load("return " .. code)()
      local function show(v)
        if type(v) ~= "table" then return math.type(v) or type(v), tostring(v) end
        local keys = {}
        for k, item in pairs(v) do keys[#keys + 1] = tostring(k) .. "=" .. table.concat({ show(item) }, " ") end
        table.sort(keys)
        return table.concat(keys, ",")
      end
      return table.concat({ show(value) }, " ")
    end"""
)


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_arrive_whole(value: int) -> None:
    assert SAME(to_lua(value), value)


@given(st.floats(allow_nan=False))
def test_floats_arrive_exactly(value: float) -> None:
    assert SAME(to_lua(value), value)


@given(st.text())
def test_text_arrives_as_utf8(value: str) -> None:
    assert SAME(to_lua(value), value.encode("utf-8", "backslashreplace"))


@given(st.binary())
def test_bytes_arrive_as_hexadecimal_text(value: bytes) -> None:
    assert SAME(to_lua(value), value.hex().upper().encode())
    assert from_hex(value.hex(" "), "data") == value


def test_structures_arrive_as_tables() -> None:
    assert SHOW(to_lua({"a": [1, 2.0, None, "x"], "b": True, "c": None})) == (
        b"a=1=integer 1,2=float 2.0,4=string x,b=boolean true"
    )
    assert SHOW(to_lua(math.nan)).startswith(b"float")
    assert SHOW(to_lua(2**70)) == b"float 1.1805916207174e+21"


def test_objects_do_not_cross() -> None:
    with pytest.raises(TypeError, match="cannot be given a object"):
        to_lua([object()])


@given(st.binary())
def test_lua_strings_become_text(value: bytes) -> None:
    text = from_lua(value)
    assert isinstance(text, str)
    assert text.encode() == value or "\\x" in text


def test_json_of_bytes_becomes_text() -> None:
    assert from_json('{"\\u00c2\\u00b5": ["\\u00ff", 1, null]}') == {"µ": ["\\xff", 1, None]}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2s", 2),
        ("500ms", 0.5),
        ("1m", 60),
        ("1.5 min", 90),
        ("1h", 3600),
        ("250us", 0.00025),
        (2, 2),
        (0.5, 0.5),
        ("3", 3),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert durations.parse(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "x", "-1s", "1 year", -1, math.nan, math.inf, 86_401, None, True, "1s2"])
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match=r"timeout is .*write '500ms', '2s', '1m'"):
        durations.parse(written, "timeout")


@pytest.mark.parametrize(("seconds", "shown"), [(0.05, "50 ms"), (2, "2 s"), (119, "119 s"), (150, "2.5 min")])
def test_durations_for_people(seconds: float, shown: str) -> None:
    assert durations.show(seconds) == shown
