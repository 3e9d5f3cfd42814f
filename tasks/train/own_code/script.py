"""The script before it runs: its syntax, what it imports, and notebooks as scripts."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.errors import InvalidData
from tasks.train.own_code.source import Code

REQUIREMENTS = "requirements.txt"
_LONGEST_SCRIPT = 10_000_000
_MAGIC = re.compile(r"^\s*[%!?]|^\s*[\w., ]+=\s*[%!]|\?{1,2}\s*$")


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
        path: Where it lies in the source; the .py file that is run.
        text: Its content: of a notebook, the script made of it; None where the file is run as it is.
        imports: What it and the files that it imports need from elsewhere.
        requirements: Content of requirements.txt; None where there is none.
    """

    path: str
    text: str | None
    imports: tuple[Import, ...]
    requirements: bytes | None


def read_script(code: Code, entry_point: str) -> Script:
    """Check the entry point and the files of the source that it imports.

    Raises:
        InvalidData: A file is not Python, or the notebook is none.
    """
    content = _read(code, entry_point)
    text = None
    path = entry_point
    if entry_point.endswith(".ipynb"):
        text = script_of_notebook(content, entry_point)
        content = text.encode()
        path = str(PurePosixPath(entry_point).with_suffix(".trainyard.py"))
    imports = tuple(_imports(code, content, path))
    root = next((name for name in code.paths if name == REQUIREMENTS), None)
    requirements = _read(code, root) if root else None
    return Script(path, text, imports, requirements if requirements and requirements.strip() else None)


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


def script_of_notebook(content: bytes, path: str) -> str:
    """The code cells of a notebook as one script; magics of IPython and shell lines become comments.

    Raises:
        InvalidData: The file is no notebook, or not of Python.
    """
    try:
        notebook = json.loads(content)
        cells = notebook["cells"]
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        sources = [
            ("".join(cell["source"]) if isinstance(cell["source"], list) else str(cell["source"]))
            for cell in cells
            if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(
            "the notebook cannot be read",
            where=path,
            allowed="a notebook of version 4, as JupyterLab saves it",
            mend="open and save it in JupyterLab, or give the script",
        ) from error
    if language.lower() != "python":
        raise InvalidData(f"the notebook is in {language}", where=path, allowed="Python")
    parts = []
    for number, source in enumerate(sources, 1):
        lines = source.splitlines()
        if lines and lines[0].lstrip().startswith("%%"):
            keeps = lines[0].split()[0] in ("%%time", "%%timeit", "%%capture")
            lines = [f"# {lines[0]}", *(lines[1:] if keeps else (f"# {line}" for line in lines[1:]))]
        parts.append(f"# In [{number}]")
        parts += [_plain(line) for line in lines]
    return "\n".join(parts) + "\n"


def _plain(line: str) -> str:
    """A line without magics; `pass` keeps a block that held nothing else."""
    if not _MAGIC.search(line) or line.lstrip().startswith("#"):
        return line
    try:
        ast.parse(line.strip())  # a % or ? that Python itself has, as at the end of a text
    except SyntaxError:
        indent = line[: len(line) - len(line.lstrip())]
        return f"{indent}pass  # {line.strip()}"
    return line


def _read(code: Code, path: str) -> bytes:
    content = code.read(path)
    if len(content) > _LONGEST_SCRIPT:
        raise InvalidData(f"the file has {len(content):,} bytes", where=path, allowed="10 MB of code")
    return content


def _parsed(content: bytes, path: str) -> ast.Module:
    try:
        tree = ast.parse(content, path)
        compile(content, path, "exec", dont_inherit=True)  # what the grammar allows and Python does not
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


def _imports(code: Code, content: bytes, path: str) -> Iterator[Import]:
    """Walk from the entry point through the files of the source; yields what comes from elsewhere."""
    there = set(code.paths)
    tops = {
        PurePosixPath(name).parts[0].removesuffix(".py") for name in there if name.endswith((".py", ".so"))
    }
    root = str(PurePosixPath(path).parent)
    tops |= {
        PurePosixPath(name).relative_to(root).parts[0].removesuffix(".py")
        for name in there
        if name.endswith(".py") and PurePosixPath(name).is_relative_to(root)
    }
    waiting, seen, given = [(path, content)], {path}, set()
    while waiting:
        file, text = waiting.pop()
        for module, line in _always_imported(_parsed(text, file)):
            top = module.partition(".")[0]
            if top in tops:
                for name in _files_of(module, root):
                    if name in there and name not in seen:
                        seen.add(name)
                        waiting.append((name, _read(code, name)))
            elif top and top not in sys.stdlib_module_names and top not in given:
                given.add(top)
                yield Import(top, f"{file}, line {line}")


def _always_imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules imported where the file itself runs: not in functions, conditions or `try`."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def _files_of(module: str, root: str) -> Iterator[str]:
    parts = module.replace(".", "/")
    for base in ("", "" if root == "." else f"{root}/"):
        yield f"{base}{parts}.py"
        yield f"{base}{parts}/__init__.py"
