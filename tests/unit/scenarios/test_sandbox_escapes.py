"""What a script must not reach. Each entry is a way out that the virtual machine or its Python binding leaves open."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

MISSING = ["os", "io", "debug", "package", "python", "dofile", "loadfile", "module", "setfenv", "getfenv", "newproxy"]


@pytest.mark.parametrize("name", MISSING)
def test_global_is_missing(play: "Play", name: str) -> None:
    played = play(f"print({name} == nil, _G.{name} == nil, rawget(_G, '{name}') == nil)")
    assert played.text[0] == "true\ttrue\ttrue"


def test_globals_are_the_listed_ones(play: "Play") -> None:
    played = play("local n = {} for k in pairs(_G) do n[#n + 1] = k end table.sort(n) print(table.concat(n, ' '))")
    assert played.text[0] == (
        "_G _VERSION assert collectgarbage coroutine error getmetatable ipairs load loadstring math next pairs pcall"
        " print rawequal rawget rawlen rawset require select setmetatable string table tonumber tostring type unpack"
        " utf8 xpcall"
    )


@pytest.mark.parametrize("module", ["os", "io", "debug", "package", "python", "kernel", "nrc", "lupa"])
def test_require_finds_no_module_of_the_runtime(play: "Play", module: str) -> None:
    played = play(f"print(pcall(require, '{module}'))")
    assert f"module '{module}' not found" in played.text[0]


@pytest.mark.parametrize("module", ["../secret", "/etc/passwd", "..", "a/../../b", "lua/kernel"])
def test_require_finds_no_file_of_the_host(play: "Play", module: str) -> None:
    played = play(f"print(pcall(require, '{module}'))", files={"helper.lua": "return 1"})
    assert played.text[0].startswith("false\t")


def test_bytecode_cannot_be_made(play: "Play") -> None:
    played = play("print(string.dump, ('x').dump, rawget(string, 'dump'))")
    assert played.text[0] == "nil\tnil\tnil"


@pytest.mark.parametrize("mode", ["'b'", "'bt'", "nil", "'t'"])
def test_bytecode_is_not_loaded(play: "Play", mode: str) -> None:
    played = play(rf"print(load('\27Lua\x54\0\x19\x93\r\n\x1a\n', 'x', {mode}))")
    assert played.text[0].startswith("nil\t")


def test_bytecode_in_pieces_is_not_loaded(play: "Play") -> None:
    played = play(r"local n = 0 print(load(function() n = n + 1 return ({'\27', 'Lua'})[n] end, 'x', 'bt'))")
    assert "attempt to load a binary chunk" in played.text[0]


def test_a_script_of_bytecode_is_refused(play: "Play") -> None:
    played = play("\x1bLua\x54\x00")
    assert played.verdict == "error"
    assert "binary chunk" in played.result["reason"]


def test_loaded_text_has_the_sandbox_as_its_environment(play: "Play") -> None:
    played = play("x = 1 print(load('return x, os, python')(), loadstring('return debug')())")
    assert played.text[0] == "1\tnil"


def test_strings_metatable_is_out_of_reach(play: "Play") -> None:
    played = play("print(getmetatable(''), pcall(setmetatable, '', {}))")
    assert played.text[0].startswith("string\tfalse")


def test_finalizers_are_refused(play: "Play") -> None:
    played = play("print(pcall(setmetatable, {}, { __gc = function() end }))")
    assert "__gc is not available in scenarios" in played.text[0]


@pytest.mark.parametrize("option", ["stop", "setpause", "incremental", "generational", "step", "isrunning"])
def test_the_garbage_collector_cannot_be_stopped(play: "Play", option: str) -> None:
    played = play(f"print(pcall(collectgarbage, '{option}'))")
    assert "takes 'collect' or 'count'" in played.text[0]


def test_no_python_object_is_in_reach(play: "Play") -> None:
    # Walks everything reachable through tables, metatables and modules, and reports what is userdata.
    played = play("""
        local seen, found = {}, {}
        local function walk(value, path)
          if type(value) == "userdata" then found[#found + 1] = path end
          if type(value) ~= "table" or seen[value] then return end
          seen[value] = true
          for k, v in next, value do walk(k, path .. ".key") walk(v, path .. "." .. tostring(k)) end
          walk(getmetatable(value), path .. ".metatable")
        end
        walk(_G, "_G")
        for _, name in ipairs({ "bench", "can", "uds", "test", "log", "time" }) do walk(require(name), name) end
        walk(require("can").bus(), "bus")
        walk(require("uds").ecu(), "ecu")
        print(#found, found[1])
    """)
    assert played.text[0] == "0\tnil"


def test_errors_carry_no_python_object(play: "Play") -> None:
    played = play("""
        local uds = require("uds")
        for _, make in ipairs({
          function() uds.ecu("nobody") end,
          function() uds.ecu({}) end,
          function() uds.ecu("ECM"):read(print) end,
          function() require("can").bus():send(0x1, "xyz") end,
          function() require("time").sleep("soon") end,
        }) do
          local ok, err = pcall(make)
          for key, value in pairs(err) do assert(type(value) ~= "userdata" and type(value) ~= "function", key) end
          print(ok, type(err), err.kind)
        end
    """)
    assert played.text[:5] == ["false\ttable\tinvalid"] * 5


def test_changing_the_libraries_does_not_reach_our_modules(play: "Play") -> None:
    played = play("""
        local test = require("test")
        local evil = function() error("reached") end
        for _, library in ipairs({ string, table, math, utf8, coroutine }) do
          for name in pairs(library) do library[name] = evil end
        end
        pcall, error, type, tostring, setmetatable, getmetatable, next, pairs, select = nil
        rawequal, rawget, require, assert = nil
        test.case("still a check", function() test.equal({ a = 1 }, { a = 2 }) end)
        test.case("still passes", function() test.equal("x", "x") end)
    """)
    assert [case["verdict"] for case in played.result["cases"]] == ["failed", "passed"]


def test_protected_metatables_of_our_objects(play: "Play") -> None:
    played = play("""
        local bus = require("can").bus()
        print(getmetatable(bus), pcall(setmetatable, bus, {}))
        print(getmetatable(require("test").within(1, 1)), getmetatable(require("bench")))
    """)
    assert played.text[0].startswith("false\tfalse\t")
    assert played.text[1] == "false\tfalse"


def test_lua_5_1_scripts_find_their_names(play: "Play") -> None:
    played = play("print(unpack({ 1, 2 })) print(loadstring('return 1 + 1')())")
    assert played.text[:2] == ["1\t2", "2"]


def test_tables_from_scripts_do_not_cross_to_python(play: "Play") -> None:
    # A changed error object is the one way in which a script could hand a table to the reporting functions.
    played = play("""
        local test, uds = require("test"), require("uds")
        test.case("tampered", function()
          local _, err = pcall(uds.ecu, "nobody")
          err.file, err.line, err.kind, err.message = {}, {}, {}, {}
          error(err)
        end)
    """)
    assert played.case["verdict"] == "error"
