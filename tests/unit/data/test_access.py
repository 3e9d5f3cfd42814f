"""Private datasets of others are not there; only those who may can write, share and delete."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.data.manifest import Feature
from tasks.data.storage import access
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, InvalidSettings, NotAllowed, NotFound
from tasks.refs import DatasetRef, Problem
from tests.helpers.stored_datasets import image_table, png, store_images

PRIVATE = DatasetCard(owner="ada", visibility="private", members=("bob",))
NAME_CANNOT = "The name pets cannot be used"


def as_user(store: DatasetStore, user: str, card: DatasetCard | None = None) -> DatasetStore:
    return DatasetStore(store.url, store.options, user, card)


def put(store: DatasetStore, each: int = 1, parent: str | None = None) -> DatasetRef:
    rows: dict[str, list[tuple[str, int | None]]] = {"train": [(f"{i}.png", i % 2) for i in range(2 * each)]}
    return store_images(store, "pets", rows, ("a", "b"), parent=parent)


@pytest.mark.parametrize(
    ("card", "user", "reads", "writes"),
    [
        (DatasetCard(owner="ada"), "ada", True, True),
        (DatasetCard(owner="ada"), "eve", True, False),
        (DatasetCard(owner="ada", writable=True), "eve", True, True),
        (PRIVATE, "ada", True, True),
        (PRIVATE, "bob", True, False),
        (PRIVATE, "eve", False, False),
        (PRIVATE, "local", False, False),
        (PRIVATE.model_copy(update={"writable": True}), "bob", True, True),
        (PRIVATE.model_copy(update={"writable": True}), "eve", False, False),
    ],
)
def test_who_may_read_and_write(card: DatasetCard, user: str, reads: bool, writes: bool) -> None:
    assert access.may_read(card, user) is reads
    assert access.may_write(card, user) is writes


def test_the_user_is_in_the_tags_or_local() -> None:
    assert access.user_of([]) == "local"
    assert access.user_of(["main-job", "user:ada"]) == "ada"
    assert access.user_of(["user:"]) == "local"
    with pytest.raises(InvalidSettings, match="2 users: ada, bob"):
        access.user_of(["user:bob", "user:ada"])


def test_the_first_writer_owns_the_dataset(any_store: DatasetStore) -> None:
    ref = put(as_user(any_store, "ada", PRIVATE.model_copy(update={"description": "cats"})))
    assert any_store.open(ref).owner == "ada"
    assert any_store.card("pets").description == "cats"
    assert as_user(any_store, "bob").open(ref).rows == 2
    put(as_user(any_store, "ada", DatasetCard(owner="ada")), each=2)
    assert any_store.card("pets").visibility == "private"  # a later version changes nothing of that


def _message(act: Callable[[], object]) -> str:
    with pytest.raises(NotFound) as caught:
        act()
    return str(caught.value)


def test_private_datasets_of_others_are_as_if_they_were_absent(any_store: DatasetStore) -> None:
    ref = put(as_user(any_store, "ada", PRIVATE))
    eve = as_user(any_store, "eve")
    absent = ref.model_copy(update={"name": "cats"})

    acts: list[Callable[[DatasetRef], object]] = [
        lambda one: eve.get(one.name),
        lambda one: eve.get(one.name, "latest-raw"),
        lambda one: eve.get(one.name, one.version),
        eve.open,
        eve.verify,
        lambda one: eve.card(one.name),
        lambda one: eve.delete(one.name, one.version),
        lambda one: eve.change_card(one.name, DatasetCard(owner="eve")),
    ]
    for act in acts:
        assert _message(lambda act=act: act(ref)).replace("pets", "cats") == _message(  # type: ignore[misc]
            lambda act=act: act(absent)  # type: ignore[misc]
        )
    assert eve.list() == []
    assert eve.names() == []
    assert eve.versions("pets") == []
    any_store.verify(ref, deep=True)
    assert any_store.card("pets") == PRIVATE


def test_writing_is_for_those_who_may(any_store: DatasetStore) -> None:
    ref = put(as_user(any_store, "ada", PRIVATE))
    with pytest.raises(NotAllowed, match=NAME_CANNOT) as caught:
        put(as_user(any_store, "eve"), each=2)
    assert "ada" not in str(caught.value)
    with pytest.raises(NotAllowed, match="bob may not add versions"):
        put(as_user(any_store, "bob"), each=2, parent=ref.version)
    as_user(any_store, "ada").change_card("pets", PRIVATE.model_copy(update={"writable": True}))
    made = put(as_user(any_store, "bob"), each=2, parent=ref.version)
    assert any_store.open(made).owner == "bob"
    assert any_store.card("pets").owner == "ada"


def test_only_the_owner_shares_and_deletes(any_store: DatasetStore) -> None:
    ref = put(as_user(any_store, "ada"))
    bob = as_user(any_store, "bob")
    with pytest.raises(NotAllowed, match="bob may not share the dataset pets"):
        bob.change_card("pets", DatasetCard(owner="bob"))
    with pytest.raises(NotAllowed, match="bob may not delete versions of the dataset pets"):
        bob.delete("pets", ref.version)
    any_store.verify(ref, deep=True)


def test_a_name_that_somebody_else_takes_meanwhile_is_theirs(any_store: DatasetStore) -> None:
    eve = as_user(any_store, "eve")

    def late() -> None:
        with eve.writer("pets") as writer:
            assert any_store.claim("pets", PRIVATE)
            writer.commit([writer.target.write("train", 0, 1, _rows())], **_about())

    with pytest.raises(NotAllowed, match=NAME_CANNOT):
        late()
    assert any_store.list() == []


def test_of_many_that_claim_a_name_at_once_one_gets_it(any_store: DatasetStore) -> None:
    cards = [DatasetCard(owner=f"user-{number}") for number in range(8)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        won = list(pool.map(lambda card: any_store.claim("pets", card), cards))
    assert [card for card, got in zip(cards, won, strict=True) if got] == [any_store.stored_card("pets")]


def test_a_writer_keeps_a_dataset_private_that_is_deleted_meanwhile(store: DatasetStore) -> None:
    first = put(as_user(store, "ada", PRIVATE))
    ada = as_user(store, "ada")
    with ada.writer("pets") as writer:
        files = [writer.target.write("train", 0, 1, _rows())]
        store.delete("pets", first.version)
        store.remove_card("pets")
        writer.commit(files, **_about())
    assert store.card("pets") == PRIVATE


def test_a_card_that_cannot_be_read_opens_nothing(store: DatasetStore) -> None:
    ref = put(as_user(store, "ada", PRIVATE))
    store.fs.pipe_file(f"{store.root}/pets/dataset.json", b"{}x")
    with pytest.raises(Damaged, match="card of a dataset"):
        as_user(store, "eve").open(ref)


def test_datasets_of_before_there_were_cards_are_shared(store: DatasetStore) -> None:
    ref = put(store)
    store.remove_card("pets")
    assert as_user(store, "eve").open(ref).rows == 2
    with pytest.raises(NotAllowed, match="its owner local"):
        put(as_user(store, "eve"), each=2)
    assert put(as_user(store, "local"), each=2).rows == 4


def _rows() -> object:
    return image_table(["1.png"], [png(3)], [0], ("a", "b"))


def _about() -> dict[str, object]:
    return {
        "problem": Problem.IMAGE_CLASSIFICATION, "features": (Feature(name="image", type="image"),),
        "label": "label", "classes": ("a", "b"), "parent": None, "method": "test", "parameters": {},
        "preprocessing": (), "source": "test",
    }  # fmt: skip
