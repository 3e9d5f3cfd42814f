"""Who may see and change a dataset: its card, `dataset.json` beside its versions, and the decisions on it.

Who asks is the name behind `user:` among the tags of the flow run, or else `local`. Nothing here proves
that name: whoever may start flow runs as they like may ask as anybody. A sign-in in front of the flows
sets the tag; these decisions hold then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.data.config_store import ShareConfig
from tasks.errors import InvalidSettings, NotAllowed
from tasks.refs import LOCAL_USER, USER_TAG

Visibility = Literal["shared", "private"]


class DatasetCard(BaseModel):
    """What is said of a dataset as a whole; unlike its versions, it may change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = ""
    owner: str = LOCAL_USER
    visibility: Visibility = "shared"
    members: tuple[str, ...] = Field(default=(), description="Who sees it besides the owner, if private.")
    writable: bool = Field(default=False, description="Whether those who see it may add versions.")


def shared(card: DatasetCard, config: ShareConfig) -> DatasetCard:
    """The card after its owner changed it; what the settings leave open stays."""
    return DatasetCard(
        description=card.description if config.description is None else config.description,
        owner=config.owner or card.owner,
        visibility=config.visibility,
        members=config.members,
        writable=config.writable,
    )


def card_page(name: str, card: DatasetCard) -> str:
    """Who may use a dataset, as Markdown."""
    return (
        f"# {name}\n\n- owner: {card.owner}\n- visibility: {card.visibility}\n"
        f"- members: {', '.join(card.members) or 'none'}\n- writable: {'yes' if card.writable else 'no'}\n"
    )


def user_of(tags: Iterable[str]) -> str:
    """The user for whom a flow run with these tags works.

    Raises:
        InvalidSettings: The tags name two users.
    """
    users = sorted({tag.removeprefix(USER_TAG).strip() for tag in tags if tag.startswith(USER_TAG)} - {""})
    if len(users) > 1:
        raise InvalidSettings(
            f"The run is tagged with {len(users)} users: {', '.join(users)}",
            allowed=f"one tag {USER_TAG}NAME, or none for the user {LOCAL_USER}",
        )
    return users[0] if users else LOCAL_USER


def may_read(card: DatasetCard, user: str) -> bool:
    """Whether the dataset exists for this user."""
    return card.visibility == "shared" or user == card.owner or user in card.members


def may_write(card: DatasetCard, user: str) -> bool:
    """Whether the user may add versions."""
    return user == card.owner or (card.writable and may_read(card, user))


def require_may_write(card: DatasetCard, name: str, user: str) -> None:
    """Check that the user may add versions to the dataset.

    Raises:
        NotAllowed: It belongs to somebody else, and is not writable for others.
    """
    if may_write(card, user):
        return
    if not may_read(card, user):  # neither whose it is nor that it can be shared
        raise NotAllowed(f"The name {name} cannot be used", where="dataset name", mend="choose another name")
    raise NotAllowed(
        f"The user {user} may not add versions to the dataset {name}",
        where=f"dataset {name}",
        allowed=f"its owner {card.owner}" + (", and those who see it" if card.writable else ""),
        mend=f"use another name, or ask {card.owner} to make it writable with the flow share-dataset",
    )


def require_owner(card: DatasetCard, name: str, user: str, act: str) -> None:
    """Check that the dataset is the user's own.

    Args:
        card: The dataset's card.
        name: Its name.
        user: Who asks.
        act: What only an owner may do, such as `delete`.

    Raises:
        NotAllowed: It belongs to somebody else.
    """
    if user != card.owner:
        raise NotAllowed(
            f"The user {user} may not {act} the dataset {name}",
            where=f"dataset {name}",
            allowed=f"its owner {card.owner}",
            mend=f"ask {card.owner}",
        )
