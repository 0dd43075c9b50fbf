"""The module env: what the run's environment holds, and nothing of it in the log."""

from typing import Any

from tests.unit.scenarios.conftest import Play

GIVEN: dict[str, Any] = {"environment": {"DB_HOST": "db.test", "PASSWORD": "correct horse"}, "secrets": ["PASSWORD"]}


def test_variables_and_secrets_are_read_by_name(play: Play) -> None:
    played = play(
        """
        local env, test = require("env"), require("test")
        test.case("env", function()
          test.equal(env.DB_HOST, "db.test")
          test.equal(#env.PASSWORD, 13)
          test.is_true(not pcall(function() env.DB_HOST = "other" end))
        end)
        """,
        **GIVEN,
    )
    assert played.verdict == "passed", played.result


def test_a_variable_that_is_not_there_is_named_with_those_that_are(play: Play) -> None:
    played = play('print(require("env").DB_PORT)', **GIVEN)
    assert played.result["failure"] is not None
    assert "DB_PORT" in played.result["failure"]["message"]
    assert "it has DB_HOST, PASSWORD" in played.result["failure"]["message"]
    lost = play('print(require("env").DB_PORT)').result["failure"]
    assert lost is not None
    assert "no environment" in lost["message"]


def test_a_secret_stays_out_of_the_log_even_where_it_would_be_cut(play: Play) -> None:
    played = play(
        """
        local env = require("env")
        print("login " .. env.PASSWORD)
        error(string.rep("x", 15990) .. env.PASSWORD)
        """,
        **GIVEN,
    )
    text = "\\n".join(text for _, text in played.log) + str(played.result)
    assert "login ***" in text
    assert "corre" not in text
