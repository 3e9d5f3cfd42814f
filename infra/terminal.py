"""What the commands show in a terminal; plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, ClassVar, Self

from rich import markdown
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)

_MARKS = {"ready": "[green]●[/]", "registered": "[green]●[/]", "starting": "[yellow]○[/]"}


class _TableElement(markdown.TableElement):
    """A table; without the blank lines of a header that has no text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                table.show_header = any(str(column.header).strip() for column in table.columns)
                table.show_edge = table.show_header
            yield table


class Markdown(markdown.Markdown):
    """Markdown as the commands show it."""

    elements: ClassVar = {**markdown.Markdown.elements, "table_open": _TableElement}


class Progress:
    """One line a service while the stack starts: its state, and how long it has taken so far."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._lines: dict[str, tuple[str, float, bool]] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if console.is_terminal:
            self._live.__exit__(kind, error, trace)
        if error is None:
            console.print(f"The stack is ready ({time.monotonic() - self._began:.1f} s).")

    def report(self, name: str, text: str) -> None:
        """Note what has become of a service."""
        elapsed_s = time.monotonic() - self._began
        done = text in ("ready", "registered")
        if not console.is_terminal and (done or name == "run"):
            console.print(f"{name}: {text} ({elapsed_s:.1f} s)", soft_wrap=True)
        self._lines[name] = (text, elapsed_s, done)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row("", f"[bold]{self._title}[/]", "", f"{time.monotonic() - self._began:.0f} s")
        for name, (text, at_s, done) in self._lines.items():
            table.add_row(_MARKS.get(text, "[yellow]○[/]"), name, text, f"{at_s:.0f} s" if done else "")
        return table


def print_status(report: dict[str, Any]) -> None:
    """Print the services and endpoints as tables."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("service", "state", "process", "address"):
        table.add_column(column)
    for service in report["services"]:
        if service["healthy"]:
            state = Text("healthy", style="green")
        else:
            state = Text(
                "starting" if service["pid"] else "down", style="yellow" if service["pid"] else "red"
            )
        table.add_row(service["name"], state, str(service["pid"] or ""), service["url"] or "")
    console.print(table)
    if report["endpoints"]:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("endpoint", "address", "token file"):
            table.add_column(column, overflow="fold")
        for endpoint in report["endpoints"]:
            table.add_row(endpoint["name"], endpoint["url"], endpoint["token_file"])
        console.print()
        console.print(table)
