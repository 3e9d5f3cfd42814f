"""The card of a dataset as a file: read, put there by the first writer, and replaced, each in one step."""

from __future__ import annotations

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from tasks.data.storage.access import DatasetCard
from tasks.data.storage.files import appearing, put
from tasks.errors import Damaged

CARD = "dataset.json"


def read_card(filesystem: fsspec.AbstractFileSystem, path: str) -> DatasetCard | None:
    """The card at a path; None where there is none.

    Raises:
        Damaged: It is not a card. Nobody gets access by that.
    """
    try:
        return DatasetCard.model_validate_json(filesystem.cat_file(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Damaged(
            f"The card of a dataset cannot be read ({error.error_count()} faults)",
            where=path,
            mend="restore the file, which says who owns the dataset",
        ) from None


def put_card(filesystem: fsspec.AbstractFileSystem, path: str, card: DatasetCard) -> None:
    """Put a card in the place of whatever is there."""
    put(filesystem, path, _content(card))


def put_new_card(filesystem: fsspec.AbstractFileSystem, path: str, card: DatasetCard) -> bool:
    """Put a card where there is none; of several that try at once, one succeeds.

    Returns:
        Whether this card is there now.
    """
    if filesystem.exists(path):
        return False
    if isinstance(filesystem, LocalFileSystem):
        try:
            with appearing(path, replace=False) as file:
                file.write(_content(card))
        except FileExistsError:
            return False
        return True
    try:
        filesystem.pipe_file(path, _content(card), mode="create")
    except FileExistsError:
        return False
    except (OSError, NotImplementedError):
        # Some S3 servers know no conditional writes, or answer in words of their own.
        if filesystem.exists(path):
            return False
        filesystem.pipe_file(path, _content(card))
    return read_card(filesystem, path) == card


def _content(card: DatasetCard) -> bytes:
    return card.model_dump_json(indent=1).encode()
