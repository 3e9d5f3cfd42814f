"""The program that runs a notebook by IPython, cell by cell.

    python -P run_notebook.py NOTEBOOK [ARGUMENT …]

It is run by the Python of the code, where this project cannot be imported. Cells mean what they do in
Jupyter, magics, shell lines and `await` included; but `pip` lines install nothing: the environment may be
that of the platform.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
import warnings
from typing import Any

_INSTALLS = re.compile(r"^\s*(\S*python\S*\s+-m\s+)?(\S*/)?(uv\s+pip|pip3?|conda|mamba)\s+(un)?install\b")


def code_cells(content: bytes) -> list[str]:
    """The sources of the code cells of a notebook of version 4, without the empty ones.

    Jupyter does not count empty cells either, so the n-th is the one that it shows as In [n].

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is no such notebook.
    """
    sources = [cell["source"] for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
    texts = ["".join(source) if isinstance(source, list) else str(source) for source in sources]
    return [text for text in texts if text.strip()]


def _shell() -> Any:
    """An interactive shell that asks nothing, keeps no history and writes without colours."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        fault: BaseException | None = None

        def enable_gui(self, gui: str | None = None) -> None:
            """Nothing: there is no display."""

        def showtraceback(self, *given: Any, **named: Any) -> None:
            self.fault = sys.exc_info()[1]  # %%capture and %run tell nobody
            if not isinstance(self.fault, SystemExit):
                super().showtraceback(*given, **named)

        def system(self, command: str) -> None:
            shell: Any = self
            command = shell.var_expand(command, depth=1)
            if _INSTALLS.match(command):
                print(f"Left out: {command.strip()} (requirements.txt beside the notebook names packages)")
                return
            self.user_ns["_exit_code"] = subprocess.call(command, shell=True)  # noqa: S602 as it says

        def ask_exit(self) -> None:
            raise SystemExit(0)

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    settings.InteractiveShell.xmode = "Plain"
    settings.InteractiveShell.cache_size = 0  # Out[n] would keep what the code thinks is gone
    shell: Any = Shell.instance(config=settings)

    def install(line: str) -> None:
        shell.system(f"pip {line}")

    for name in ("pip", "conda", "mamba", "uv"):
        shell.register_magic_function(install, "line", name)
    return shell


def main() -> None:
    """Run the cells up to the first that fails; the exit code is the one that a script would have."""
    path = os.path.abspath(sys.argv[1])
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(path))
    warnings.filterwarnings("ignore", message="To exit: use")
    shell = _shell()
    shell.user_ns["__file__"] = path
    with open(path, "rb") as file:
        cells = code_cells(file.read())
    for cell in cells:
        result = shell.run_cell(cell, store_history=True)
        if isinstance(shell.fault, SystemExit):
            raise shell.fault
        if result.success and shell.fault is not None:
            traceback.print_exception(shell.fault)
        if not result.success or shell.fault is not None:
            sys.exit(1)


if __name__ == "__main__":
    main()
