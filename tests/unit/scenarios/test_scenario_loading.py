"""Scripts that do not load, and files that they require."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play


def test_a_syntax_error_is_an_error_with_file_and_line(play: "Play") -> None:
    played = play("local x = 1\nlocal y = = 2\n", name="suite/broken.lua")
    assert played.verdict == "error"
    assert played.result["reason"] == "suite/broken.lua:2: unexpected symbol near '='"
    assert played.result["cases"] == []
    assert (played.failure["file"], played.failure["line"]) == ("suite/broken.lua", 2)


def test_long_names_stay_whole(play: "Play") -> None:
    name = "a/very/long/path/that/lua/cuts/in/its/messages/since/it/has/more/than/sixty/characters.lua"
    assert play("x = = 1", name=name).failure["file"] == name
    played = play("local a\na.b = 1", name=name)
    assert played.failure["file"] == name
    assert played.failure["message"] == "attempt to index a nil value (local 'a')"


def test_a_shebang_and_a_byte_order_mark_are_skipped(play: "Play") -> None:
    assert play("#!/usr/bin/env labctl run\nprint('x') require('test').is_true(1)").verdict == "passed"
    assert play("\ufeffrequire('test').is_true(1)").verdict == "passed"


def test_require_runs_a_file_once(play: "Play") -> None:
    played = play(
        "local a, b = require('lib.util'), require('lib.util') print(rawequal(a, b), a.name, count)",
        files={"lib/util.lua": "count = (count or 0) + 1 return { name = ... }"},
    )
    assert played.text[0] == "true\tlib.util\t1"


def test_require_finds_init_files_and_results_that_are_nil(play: "Play") -> None:
    played = play("print(require('lib'), require('empty'))", files={"./lib/init.lua": "return 'lib'", "empty.lua": ""})
    assert played.text[0].split("\t")[0] == "lib"


def test_a_missing_file_lists_what_there_is(play: "Play") -> None:
    played = play("require('utli')", files={"util.lua": "", "lib/can.lua": ""})
    assert played.verdict == "error"
    assert "module 'utli' not found" in played.failure["message"]
    assert "lib/can.lua, util.lua" in played.failure["message"]


def test_a_required_file_with_a_syntax_error_names_file_and_line(play: "Play") -> None:
    played = play("\nrequire('bad')", files={"bad.lua": "\n\nx = = 1"})
    assert played.verdict == "error"
    assert "module 'bad' does not load: bad.lua:3: unexpected symbol" in played.failure["message"]
    assert played.failure["line"] == 2


def test_an_error_while_loading_a_file_can_be_tried_again(play: "Play") -> None:
    played = play(
        "print(pcall(require, 'bad')) ready = true print(pcall(require, 'bad'))",
        files={"bad.lua": "if not ready then error('not yet') end return 'fine'"},
    )
    assert played.text[0] == "false\tbad.lua:1: not yet"
    assert played.text[1].startswith("true\tfine")


def test_files_that_require_each_other_are_an_error(play: "Play") -> None:
    played = play("require('a')", files={"a.lua": "require('b')", "b.lua": "require('a')"})
    assert "module 'a' requires itself" in played.failure["message"]


def test_our_modules_come_before_files_of_the_same_name(play: "Play") -> None:
    played = play("print(type(require('test').case))", files={"test.lua": "return {}"})
    assert played.text[0] == "function"


@pytest.mark.parametrize("argument", ["", "nil", "{}", "1"])
def test_require_wants_text(play: "Play", argument: str) -> None:
    assert "bad argument #1 to 'require'" in play(f"require({argument})").failure["message"]
