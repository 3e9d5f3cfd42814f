"""The entry point before it runs: its syntax, and what it imports."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.errors import InvalidData
from tasks.train.own_code import run_notebook
from tasks.train.own_code.source import Code

REQUIREMENTS = "requirements.txt"
_LONGEST_SCRIPT = 10_000_000


@dataclass(frozen=True)
class Import:
    """A module that the code imports whenever it runs.

    Attributes:
        module: Name of the package, the part before the first dot.
        where: File and line.
    """

    module: str
    where: str


@dataclass(frozen=True)
class Script:
    """The entry point, checked.

    Attributes:
        path: Where it lies in the source.
        module: Its dotted name where it must be run as a module of its package; empty where it is a file.
        imports: What it and the files that it imports need from elsewhere.
        requirements: Content of requirements.txt; None where there is none.
    """

    path: str
    module: str
    imports: tuple[Import, ...]
    requirements: bytes | None

    def command(self, folder: Path) -> list[str]:
        """What Python is to run, where the copy of the source lies in a folder."""
        if self.path.endswith(".ipynb"):
            return ["-P", run_notebook.__file__, str(folder / self.path)]
        if self.module:
            return ["-m", self.module]
        return [str(folder / self.path)]


def read_script(code: Code, entry_point: str) -> Script:
    """Check the entry point and the files of the source that it imports.

    Raises:
        InvalidData: A file is not Python, or the notebook is none.
    """
    content = _read(code, entry_point)
    if entry_point.endswith(".ipynb"):
        trees, written = _cells(content, entry_point), _written(content)
    else:
        trees, written = [_parsed(content, entry_point)], set()
    module = _module(entry_point, trees)
    imports = tuple(_imports(code, trees, entry_point, written, as_module=bool(module)))
    root = next((name for name in code.paths if name == REQUIREMENTS), None)
    requirements = _read(code, root) if root else None
    return Script(
        entry_point, module, imports, requirements if requirements and requirements.strip() else None
    )


def missing(imports: Iterable[Import]) -> list[Import]:
    """The imports that this environment cannot meet; nothing is imported to find out."""
    found = []
    for needed in imports:
        try:
            there = needed.module in sys.modules or importlib.util.find_spec(needed.module) is not None
        except (ImportError, ValueError):
            there = False
        if not there:
            found.append(needed)
    return found


def refuse_missing(found: list[Import], has_requirements: bool) -> None:
    """Say which imports nothing meets.

    Raises:
        InvalidData: There are such imports.
    """
    if not found:
        return
    names = ", ".join(sorted({needed.module for needed in found}))
    action = f"add the packages to {REQUIREMENTS}" if has_requirements else f"add a {REQUIREMENTS} with them"
    raise InvalidData(
        f"the code imports {names}, which {'is' if ',' not in names else 'are'} not installed",
        where="; ".join(f"{needed.where} imports {needed.module}" for needed in found[:5]),
        mend=f"{action} beside the code; or correct the name",
    )


def _cells(content: bytes, path: str) -> list[ast.Module]:
    """The code cells of a notebook, parsed.

    Raises:
        InvalidData: The file is no notebook, or not of Python.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        sources = run_notebook.code_cells(content)
        metadata = json.loads(content).get("metadata", {})
        language = str(metadata.get("kernelspec", {}).get("language", "python"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(
            "the notebook cannot be read",
            where=path,
            allowed="a notebook of version 4, as JupyterLab saves it",
            mend="open and save it in JupyterLab, or give the script",
        ) from error
    if language.lower() != "python":
        raise InvalidData(f"the notebook is in {language}", where=path, allowed="Python")
    trees = []
    for number, source in enumerate(sources, 1):
        where = f"{path}, cell {number}"
        try:
            python = TransformerManager().transform_cell(source)
        except SyntaxError:
            python = source  # what is wrong with it is said below
        trees.append(_parsed(python.encode(), where, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    return trees


def _written(content: bytes) -> set[str]:
    """Modules and packages that a notebook writes by %%writefile, relative to the folder of the code."""
    firsts = (cell.lstrip().partition("\n")[0].split() for cell in run_notebook.code_cells(content))
    paths = (words[-1].strip("\"'") for words in firsts if words[0] in ("%%writefile", "%%file"))
    return {PurePosixPath(path).parts[0].removesuffix(".py") for path in paths if path.endswith(".py")}


def _module(path: str, trees: Sequence[ast.Module]) -> str:
    """The dotted name by which the entry point is run; empty where it imports nothing relative to itself.

    Raises:
        InvalidData: It does, and does not lie in packages enough for that.
    """
    levels = [level for tree in trees for level in _levels(tree)]
    if not levels:
        return ""
    parts = PurePosixPath(path).with_suffix("").parts
    if path.endswith(".ipynb") or max(levels) >= len(parts) or any("." in part for part in parts):
        dots = "." * max(levels)
        raise InvalidData(
            f"the code imports relative to a package (from {dots}…), and does not lie in such a one",
            where=path,
            allowed="a .py file in a folder of the source: it is run by python -m from the source's root",
            mend="name the folder above as the source, and the entry point as package/file.py; "
            "or import without the dots",
        )
    return ".".join(parts)


def _levels(node: ast.AST) -> Iterator[int]:
    """How far relative imports go up; those in `try` aside, which have another way."""
    if isinstance(node, ast.ImportFrom) and node.level:
        yield node.level
    if not isinstance(node, ast.Try):
        for inner in ast.iter_child_nodes(node):
            yield from _levels(inner)


def _read(code: Code, path: str) -> bytes:
    content = code.read(path)
    if len(content) > _LONGEST_SCRIPT:
        raise InvalidData(f"the file has {len(content):,} bytes", where=path, allowed="10 MB of code")
    return content


def _parsed(content: bytes, path: str, flags: int = 0) -> ast.Module:
    try:
        tree = ast.parse(content, path)
        # Python refuses some of what its grammar allows, such as a return outside of a function.
        compile(content, path, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        said = (getattr(error, "text", None) or "").strip()
        message = getattr(error, "msg", None) or str(error)
        raise InvalidData(
            f"the code has a syntax error: {message}",
            where=f"{path}, line {line}: {said[:200]}" if line else path,
            allowed=f"Python {sys.version_info.major}.{sys.version_info.minor}",
            mend="correct the line; nothing was started",
        ) from error
    return tree


def _imports(
    code: Code, trees: Sequence[ast.Module], path: str, written: Collection[str], as_module: bool
) -> Iterator[Import]:
    """Walk from the entry point through the files of the source; yields what comes from elsewhere.

    Args:
        code: The source.
        trees: The entry point, or its cells.
        path: Of the entry point.
        written: Modules that the entry point itself writes.
        as_module: It is run from the root of the source, and what lies beside it is not on the path.
    """
    there = set(code.paths)
    tops = {
        PurePosixPath(name).parts[0].removesuffix(".py") for name in there if name.endswith((".py", ".so"))
    }
    root = "." if as_module else str(PurePosixPath(path).parent)
    tops |= {
        PurePosixPath(name).relative_to(root).parts[0].removesuffix(".py")
        for name in there
        if name.endswith(".py") and PurePosixPath(name).is_relative_to(root)
    }
    cells = path.endswith(".ipynb")
    waiting = [(f"{path}, cell {n}" if cells else path, tree) for n, tree in enumerate(trees, 1)]
    seen, given = {path}, set(written)
    while waiting:
        file, tree = waiting.pop(0)
        for module, line in _always_imported(tree, PurePosixPath(file).parent):
            top = module.partition(".")[0]
            if top in tops:
                for name in _files_of(module, root):
                    if name in there and name not in seen:
                        seen.add(name)
                        waiting.append((name, _parsed(_read(code, name), name)))
            elif top and top not in sys.stdlib_module_names and top not in given:
                given.add(top)
                yield Import(top, f"{file}, line {line}")


def _always_imported(tree: ast.Module, folder: PurePosixPath) -> Iterator[tuple[str, int]]:
    """Modules imported where the file itself runs: not in functions, conditions or `try`.

    Those relative to its package are named from the root of the source.
    """
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(folder.parts):
                continue  # above the source; if it is ever run, Python says so
            above = folder.parts[: len(folder.parts) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in ([base] if base else []) + [f"{base}.{alias.name}" for alias in node.names if base]:
                yield name, node.lineno


def _files_of(module: str, root: str) -> Iterator[str]:
    parts = module.replace(".", "/")
    for base in ("", "" if root == "." else f"{root}/"):
        yield f"{base}{parts}.py"
        yield f"{base}{parts}/__init__.py"
