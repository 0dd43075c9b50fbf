"""Writes `labd.client.async_methods` from `LabClient`, so that the two clients cannot differ: ``make client``.

A method of the one becomes a coroutine of the other by an `await` before all that talks to labd. Methods that stream
are not mirrored: `labd.client.asynchronous` has them.
"""

import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "async_methods.py"
SOURCES = (("identities.py", "Identities"), ("lab.py", "LabClient"))
BY_HAND = {"url", "signed_in", "close", "follow_lease", "follow_leases", "follow_run", "follow_log", "log", "backup"}
_TALKS = {"_get", "_look", "_call", "_put", "_delete", "_items", "request", "leases"}
_HEAD = '''"""The methods of `AsyncLabClient`. Written by `make client` from those of `LabClient`: change these."""

# ruff: noqa: F401
'''


class _Mirror(ast.NodeTransformer):
    """Makes a coroutine of a method."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AsyncFunctionDef:
        returns = node.returns
        if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "Iterator":
            returns = ast.Subscript(ast.Name("list"), returns.slice)
        body = [self.visit(statement) for statement in node.body]
        return ast.AsyncFunctionDef(node.name, node.args, body, node.decorator_list, returns)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        called = ast.unparse(function)
        if called == "list" and ast.unparse(node.args[0]).startswith("list("):
            return node.args[0]
        if called == "islice":
            return ast.Call(ast.Name("list"), [node], [])
        if called.startswith("self.") and called.rsplit(".", 1)[1] in _TALKS:
            return ast.Await(node)
        return node


def written() -> str:
    """The module's text, formatted."""
    imports: list[ast.stmt] = []
    methods: list[ast.stmt] = []
    helpers: list[ast.stmt] = []
    for name, owner in SOURCES:
        tree = ast.parse((HERE / name).read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(node)
            elif isinstance(node, ast.FunctionDef | ast.Assign | ast.AnnAssign) and name == "lab.py":
                helpers.append(node)
            elif isinstance(node, ast.ClassDef) and node.name == owner:
                methods += [_Mirror().visit(one) for one in node.body if _is_mirrored(one)]
    base = ast.ImportFrom("labd.client.async_base", [ast.alias("AsyncBase")], 0)
    mirrored = ast.ClassDef("AsyncMethods", [ast.Name("AsyncBase")], [], [_docstring(), *methods], [])
    module = ast.fix_missing_locations(ast.Module([*imports, base, *helpers, mirrored], []))
    return _formatted(_HEAD + ast.unparse(module) + "\n")


def _is_mirrored(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name not in BY_HAND


def _docstring() -> ast.stmt:
    return ast.Expr(ast.Constant("One coroutine for each method of `LabClient` that talks to labd once."))


def _formatted(text: str) -> str:
    for arguments in (["check", "--fix", "--quiet", "--select", "I,F811"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return text


if __name__ == "__main__":
    TARGET.write_text(written(), "utf-8")
