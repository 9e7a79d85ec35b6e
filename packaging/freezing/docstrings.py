"""Code without the docstrings that nothing reads at run time. Runs in the target's root.

What stays: those of our own modules, since the help of a command is its module's, and those of dataclasses, since one without makes its own
with inspect.signature, which costs more. Asserts stay too: what is frozen does what is tested.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from types import CodeType

_OWN = "pinnace"


def undocumented(modules: Mapping[str, CodeType]) -> dict[str, CodeType]:
    """Modules by name, each compiled again from its source where that is at hand."""
    return {
        name: without(Path(code.co_filename), of_module=name.partition(".")[0] != _OWN) if Path(code.co_filename).is_file() else code
        for name, code in modules.items()
    }


def without(source: Path, *, of_module: bool) -> CodeType:
    """The code of one file. `of_module`: the module's own docstring goes as well."""
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        match node:
            case ast.Module() if of_module:
                _strip(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                _strip(node)
            case ast.ClassDef() if not any("dataclass" in ast.unparse(each) for each in node.decorator_list):
                _strip(node)
    return compile(tree, str(source), "exec", dont_inherit=True)


def _strip(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is None:
        return
    first = node.body.pop(0)
    if not node.body or ast.get_docstring(node, clean=False) is not None:  # the string after it is no docstring
        node.body.insert(0, ast.copy_location(ast.Pass(), first))
