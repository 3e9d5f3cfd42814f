"""The static pages: files by address, no lists of folders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.settings import Settings
from infra.stack import pages
from infra.stack.services import declared


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    for place in ("index.html", "pictures/5f1c.png", "wine/20261121-120000-abcdef/1a2b/index.html"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f"this is {place}")
    with pages.server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("folder", ["pictures/", "wine/", "wine/20261121-120000-abcdef/", "gone/"])
def test_a_folder_is_not_listed(address: str, folder: str) -> None:
    answer = httpx.get(f"{address}/{folder}", trust_env=False)

    assert answer.status_code == 404
    assert "5f1c" not in answer.text
    assert "1a2b" not in answer.text


@pytest.mark.parametrize("page", ["pictures/5f1c.png", "wine/20261121-120000-abcdef/1a2b/index.html"])
def test_a_page_is_found_by_its_address(address: str, page: str) -> None:
    assert httpx.get(f"{address}/{page}", trust_env=False).text == f"this is {page}"


def test_a_folder_with_a_page_of_its_own_shows_that(address: str) -> None:
    assert httpx.get(f"{address}/", trust_env=False).text == "this is index.html"


def test_the_stack_serves_its_pages_this_way(tmp_path: Path) -> None:
    [docs] = [service for service in declared(Settings(home=tmp_path)) if service.name == "docs"]

    assert docs.command[1:3] == ("-m", pages.__name__)
    assert str(tmp_path / "docs") in docs.command
