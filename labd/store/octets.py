"""How many bytes a text takes, in SQL: databases have other names for it."""

from typing import Any

from sqlalchemy import Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class octets(FunctionElement[int]):
    """The bytes of a text in UTF-8; 0 for NULL."""

    type = Integer()
    inherit_cache = True
    name = "octets"


@compiles(octets)
def _standard(element: octets, compiler: SQLCompiler, **how: Any) -> str:
    return f"coalesce(octet_length({compiler.process(element.clauses, **how)}), 0)"


@compiles(octets, "sqlite")
def _sqlite(element: octets, compiler: SQLCompiler, **how: Any) -> str:
    # Not every SQLite has octet_length(), and length() of a text counts characters.
    return f"coalesce(length(CAST({compiler.process(element.clauses, **how)} AS BLOB)), 0)"
