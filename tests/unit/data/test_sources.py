"""What may be read, and what is found there: folders, files, globs, S3 prefixes."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import s3fs

from blocks.object_store import ObjectStore, default_source_roots
from tasks.data.config import IngestConfig
from tasks.data.sources.globs import Glob
from tasks.data.sources.source import Source, digest, opened, scan
from tasks.errors import InvalidData, InvalidSettings, NotAllowed, NotFound, TrainyardError, Unavailable
from tasks.predict.config import PredictConfig
from tasks.predict.sources import find
from tasks.refs import Problem

ZOO = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/3.png", "labels.csv")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return write(tmp_path / "zoo", *ZOO)


@pytest.fixture
def bucket(s3: dict[str, Any], tmp_path: Path) -> str:
    name = f"zoo-{abs(hash(str(tmp_path))):x}"
    server = s3fs.S3FileSystem(**s3)
    server.mkdir(name)
    for path in ZOO:
        server.pipe_file(f"{name}/zoo/{path}", path.encode())
    server.pipe_file(f"{name}/zoology/x.png", b"x")
    return name


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(os.fsencode(path))
    return root


def config(source: Path | str, **more: Any) -> IngestConfig:
    return IngestConfig(source=str(source), name="zoo", problem=Problem.IMAGE_CLASSIFICATION, **more)


def listed(source: Path | str, options: Any = None, **more: Any) -> tuple[str, ...]:
    with opened(config(source, **more), options) as found:
        return found.paths


def test_a_listing_has_what_layouts_need(zoo: Path) -> None:
    (zoo / ".hidden").write_text("x")
    write(zoo, "__MACOSX/x.png", ".git/config")
    with opened(config(zoo)) as source:
        assert source.paths == ZOO
        assert source.sizes.tolist() == [len(path) for path in ZOO]
        assert source.bytes == sum(len(path) for path in ZOO)
        assert source.stamps == ()
        assert source.named("labels.tsv", "labels.csv") == "labels.csv"
        assert source.named("label", "zzz", "cat") is None
        reader = pickle.loads(pickle.dumps(source.reader))
        assert [reader.read(path).decode() for path in source.paths] == list(ZOO)
        with reader.open("cat/1.png") as file:
            assert (file.read(3), file.read()) == (b"cat", b"/1.png")


def test_an_s3_prefix_reads_as_a_folder(bucket: str, s3: dict[str, Any]) -> None:
    with opened(config(f"s3://{bucket}/zoo"), s3) as source:
        assert source.paths == ZOO
        assert source.sizes.tolist() == [len(path) for path in ZOO]
        assert len(set(source.stamps)) == len(ZOO)
        reader = pickle.loads(pickle.dumps(source.reader))
        assert [reader.read(path).decode() for path in source.paths] == list(ZOO)
        with reader.open("cat/1.png") as file:
            assert (file.read(3), file.read()) == (b"cat", b"/1.png")
    assert listed(f"s3://{bucket}/zoo/", s3) == ZOO
    assert listed(f"s3://{bucket}", s3) == (*(f"zoo/{path}" for path in ZOO), "zoology/x.png")
    assert listed(f"s3://{bucket}/zoo/labels.csv", s3) == ("labels.csv",)


def test_an_s3_listing_in_many_pages(s3: dict[str, Any]) -> None:
    server = s3fs.S3FileSystem(**s3)
    server.mkdir("pages")
    server.pipe({f"pages/a/{number:04d}.txt": b"x" for number in range(1_100)})
    server.touch("pages/a/0000.txt-more")
    assert len(listed("s3://pages/a", s3)) == 1_101
    assert listed("s3://pages/a/0000.txt", s3) == ("0000.txt",)
    assert len(listed("s3://pages/a/00*.txt", s3)) == 100


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("cat/*.png", ["cat/1.png", "cat/2.png"]),
        ("*/1.png", ["cat/1.png", "dog/1.png"]),
        ("[cd]*/1.png", ["cat/1.png", "dog/1.png"]),
        ("**/*.png", ["cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/3.png"]),
        ("d*", ["dog/1.png", "dog/deep/3.png"]),
        ("*/deep", ["dog/deep/3.png"]),
        ("*.csv", ["labels.csv"]),
        ("**/deep/*", ["dog/deep/3.png"]),
        ("c?t/?.png", ["cat/1.png", "cat/2.png"]),
    ],
)
def test_globs_and_include_mean_the_same(
    zoo: Path, bucket: str, s3: dict[str, Any], pattern: str, found: list[str]
) -> None:
    assert list(listed(zoo, include=[pattern])) == found
    assert list(listed(f"s3://{bucket}/zoo", s3, include=[pattern])) == found
    for source, options in ((str(zoo), None), (f"s3://{bucket}/zoo", s3)):
        with opened(config(f"{source}/{pattern}"), options) as one:
            root = one.url.removeprefix(source).strip("/")
            assert [f"{root}/{path}".strip("/") for path in one.paths] == found
    assert list(listed(zoo, exclude=[pattern])) == [path for path in ZOO if path not in found]


def test_exclude_is_stronger_than_include(zoo: Path) -> None:
    assert listed(zoo, include=["cat", "dog/1.png"], exclude=["*/2.png"]) == ("cat/1.png", "dog/1.png")
    with pytest.raises(InvalidData, match="There is no file in"):
        listed(zoo, include=["**/*.png"], exclude=["*"])


def test_a_list_of_files_must_be_there(zoo: Path, bucket: str, s3: dict[str, Any]) -> None:
    assert listed(zoo, include=["cat/1.png", "./dog/deep/"]) == ("cat/1.png", "dog/deep/3.png")
    for source, options in ((str(zoo), None), (f"s3://{bucket}/zoo", s3)):
        with pytest.raises(NotFound, match=r"2 files of include are not there: \.\./x, cat/9\.png"):
            listed(source, options, include=["cat/1.png", "cat/9.png", "../x"])


def test_names_with_wildcards_in_them(tmp_path: Path) -> None:
    root = write(tmp_path / "a[1]", "b*.txt", "bc.txt")
    assert listed(root) == ("b*.txt", "bc.txt")
    assert listed(root / "b*.txt") == ("b*.txt",)
    assert listed(root, include=["bc.txt"]) == ("bc.txt",)
    assert listed(tmp_path / "a*" / "bc.txt") == ("a[1]/bc.txt",)


def test_globs_cost_no_more_for_being_nasty() -> None:
    name = "a" * 200 + "b"
    assert not Glob("/".join(["**", "*a*a*a*a*a*a*a*c"] * 10)).matches([name] * 50)
    assert Glob("**/**/**/x").matches(["x"])
    assert not Glob("**/x/**/y").matches(["x", "z"])


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data", "https://example.org/a.csv", "http:/example.org/a.csv",
        "ftp://host/a", "gs://bucket/a", "hdfs://a/b", "ssh://host/a", "smb://host/a", "data://text",
        "zip://a.csv::/tmp/a.zip", "simplecache::s3://bucket/a", "filecache::/etc/passwd", "s3://a::file:///etc",
        "local:///etc/passwd", "memory://a", "reference://a", "FILE:///etc/passwd", "//169.254.169.254/share",
        "file://169.254.169.254/share", "file://etc/passwd", "sample:nothing", "sample:../digits", "sample:",
    ],
)  # fmt: skip
def test_addresses_that_are_not_read(address: str) -> None:
    for call in (digest, lambda config: opened(config).__enter__()):
        with pytest.raises(InvalidSettings) as caught:
            call(config(address))
        assert caught.value.allowed


def test_addresses_that_are_read(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(zoo))
    monkeypatch.chdir(zoo)
    for address in (f"file://{zoo}", "~", ".", f"{zoo}/", f"{zoo}/cat/..", "../zoo"):
        assert listed(address) == ZOO
    assert len(listed("sample:iris")) == 1


@pytest.mark.parametrize("address", ["", "/cat/*.png", "/labels.csv", "/nothing"])
def test_only_allowed_folders_are_read(zoo: Path, tmp_path: Path, address: str) -> None:
    write(tmp_path / "other", "x.txt")
    with pytest.raises(NotAllowed) as caught, opened(config(f"{zoo}{address}"), roots=[f"{tmp_path}/other/"]):
        pass
    assert "other" in caught.value.allowed
    with pytest.raises(NotAllowed):
        digest(config(f"{zoo}{address}"), roots=["/data"])
    with pytest.raises(NotAllowed, match="no folder"):
        scan(f"{zoo}{address}", roots=[])


def test_batch_inference_reads_allowed_folders_only(zoo: Path) -> None:
    wanted = PredictConfig(model="m", source=f"{zoo}/*/*.png", output="/nowhere")
    assert len(find(wanted, roots=[str(zoo)]).files) == 3
    with pytest.raises(NotAllowed):
        find(wanted, roots=["/data"])
    with pytest.raises(NotFound):
        find(wanted, roots=[str(zoo)], closed=[str(zoo)])


def test_allowed_folders(zoo: Path, tmp_path: Path) -> None:
    for root in (tmp_path, zoo, f"file://{zoo}"):
        assert scan(str(zoo), roots=["/data", str(root)]).paths == ZOO
    with pytest.raises(NotAllowed):
        scan(str(zoo), roots=[str(tmp_path / "zo")])
    with pytest.raises(NotFound):
        scan(str(tmp_path / "nothing"), roots=[str(tmp_path)])
    write(tmp_path / "other", "x.txt")
    assert scan(f"{zoo}/../other/*", roots=[f"{tmp_path}/other"]).paths == ("x.txt",)
    assert scan(f"{tmp_path}/z*/cat/*", roots=[str(tmp_path)]).paths == ("zoo/cat/1.png", "zoo/cat/2.png")


def test_links_are_followed_before_the_roots_are_looked_at(zoo: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "to-zoo").symlink_to(zoo)
    (allowed / "to-file").symlink_to(zoo / "labels.csv")
    for name in ("to-zoo", "to-zoo/cat", "to-file", "to-zoo/*/1.png"):
        with pytest.raises(NotAllowed):
            scan(str(allowed / name), roots=[str(allowed)])
    (tmp_path / "root").symlink_to(zoo)
    assert scan(str(zoo), roots=[str(tmp_path / "root")]).paths == ZOO


def test_hidden_folders_are_as_if_they_were_not_there(zoo: Path) -> None:
    write(zoo, ".ssh/id_rsa", "cat/.cache/x.png")
    (zoo / "link").symlink_to(zoo / ".ssh")
    for path in (".ssh", ".ssh/id_rsa", ".ss*/*", "cat/.cache", ".nothing", "link", "link/id_rsa"):
        with pytest.raises(TrainyardError) as caught:
            scan(f"{zoo}/{path}", roots=[str(zoo)])
        assert isinstance(caught.value, NotFound | InvalidData)
        assert "There is no" in str(caught.value)
    # An administrator may open one on purpose.
    assert scan(f"{zoo}/.ssh", roots=[f"{zoo}/.ssh"]).paths == ("id_rsa",)


def test_the_store_and_the_data_folder_are_no_sources(
    zoo: Path, tmp_path: Path, bucket: str, s3: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads another user's private dataset by the path of its files."""
    write(tmp_path, "store/datasets/private/secret.png", "home/store/secret.png", "home/uploads/mine.png")
    store = f"file://{tmp_path}/store"
    for path in ("store", "store/datasets/private/secret.png", "store/**/*.png", "home", "home/store/s*.png"):
        with pytest.raises(NotFound):
            scan(f"{tmp_path}/{path}", roots=[str(tmp_path)], closed=[store])
    found = scan(str(tmp_path), roots=[str(tmp_path)], closed=[store]).paths
    assert [path for path in found if "secret" in path or "home" in path] == []
    assert "zoo/labels.csv" in found
    assert scan(f"{tmp_path}/home/uploads", roots=[f"{tmp_path}/home/uploads"]).paths == ("mine.png",)
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    with pytest.raises(NotFound):
        scan(str(zoo), roots=[str(tmp_path)])

    for path in ("zoo", "zoo/", "zoo/cat", "zoo/cat/1.png", "zoo/*/1.png"):
        with pytest.raises(NotFound):
            scan(f"s3://{bucket}/{path}", s3, closed=[f"s3://{bucket}/zoo/"])
    assert scan(f"s3://{bucket}", s3, closed=[f"s3://{bucket}/zoo"]).paths == ("zoology/x.png",)
    assert scan(f"s3://{bucket}/zo*/*.png", s3, closed=[f"s3://{bucket}/zoo"]).paths == ("zoology/x.png",)


@pytest.mark.parametrize("pattern", ["", "/*/*", "/**", "/cat/*.png"])
def test_links_out_of_the_folder(zoo: Path, tmp_path: Path, pattern: str) -> None:
    write(tmp_path, "secret.png", "zoo/.hidden/x.png")
    link = zoo / "cat" / "link.png"
    inside = [zoo / ".hidden" / "x.png", zoo / "dog", zoo / "gone", link]
    for target in (tmp_path / "secret.png", Path("/dev/zero"), *inside):
        link.symlink_to(target)
        with pytest.raises(InvalidData, match=r"link\.png is a link that leads out of the folder, or not to"):
            listed(f"{zoo}{pattern}")
        link.unlink()
    link.symlink_to(zoo / "cat" / "1.png")
    assert any(path.endswith("link.png") for path in listed(f"{zoo}{pattern}"))


def test_links_that_are_not_asked_for_do_no_harm(zoo: Path, tmp_path: Path) -> None:
    (zoo / "elsewhere").symlink_to(tmp_path)
    assert listed(f"{zoo}/cat/*") == ("1.png", "2.png")
    assert listed(f"{zoo}/*/1.png") == ("cat/1.png", "dog/1.png")


def test_what_is_no_file_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound):
        listed(tmp_path / "pipe")
    write(tmp_path, "a.txt")
    assert listed(tmp_path) == ("a.txt",)
    with pytest.raises(NotFound):
        listed(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidData, match="There is no file in"):
        listed(tmp_path / "empty")


def test_names_that_cannot_be_kept(tmp_path: Path) -> None:
    for name in ("a\nb.txt", "a\udcff.txt"):
        file = write(tmp_path / "names", name) / name
        with pytest.raises(InvalidData, match=r"in its name|not in UTF-8"):
            listed(tmp_path / "names")
        file.unlink()


def test_names_on_s3_that_cannot_be_kept(s3: dict[str, Any]) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3["endpoint_url"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="odd-names")
    for key in ("a/../b.txt", "a//b.txt", "a/./b.txt", "a/b\x07.txt"):
        client.put_object(Bucket="odd-names", Key=key, Body=b"x")
        with pytest.raises(InvalidData, match=r"in it|in its name"):
            listed("s3://odd-names", s3)
        client.delete_object(Bucket="odd-names", Key=key)


def test_s3_addresses_where_nothing_is(bucket: str, s3: dict[str, Any]) -> None:
    for path in (
        f"{bucket}/nothing",
        f"{bucket}/zo",
        "no-such-bucket/x",
        "*/x",
        "",
        f"{bucket}/zoo/labels.csv/x",
    ):
        with pytest.raises(NotFound, match="There is no s3://"):
            listed(f"s3://{path}", s3)
    with pytest.raises(InvalidData, match="There is no file in"):
        listed(f"s3://{bucket}/zoo/*.tsv", s3)


def test_an_object_store_that_does_not_answer(s3: dict[str, Any]) -> None:
    options = s3 | {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 1}}}
    with pytest.raises(Unavailable, match="does not answer for s3://nowhere/x"):
        listed("s3://nowhere/x", options)


def test_an_object_store_that_wants_keys(s3: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(NotAllowed, match="does not let s3://nowhere/x be read"):
        listed("s3://nowhere/x", {"endpoint_url": s3["endpoint_url"]})


def test_the_digest_tells_names_and_contents(zoo: Path, bucket: str, s3: dict[str, Any]) -> None:
    def changed(source: str, options: Any, change: Callable[[], Any]) -> bool:
        before = digest(config(source), options)
        assert digest(config(source), options) == before
        change()
        return digest(config(source), options) != before

    server = s3fs.S3FileSystem(**s3)
    remote = f"s3://{bucket}/zoo"
    assert changed(str(zoo), None, lambda: (zoo / "cat/1.png").write_bytes(b"tac/1.png"))
    assert changed(str(zoo), None, lambda: (zoo / "cat/1.png").rename(zoo / "cat/3.png"))
    assert not changed(str(zoo), None, lambda: os.utime(zoo / "labels.csv", (1, 1)))
    assert changed(remote, s3, lambda: server.pipe_file(f"{bucket}/zoo/cat/1.png", b"tac/1.png"))
    assert not changed(remote, s3, lambda: server.pipe_file(f"{bucket}/zoology/y.png", b"y"))
    assert digest(config(zoo, include=["dog"])) != digest(config(zoo))


def test_many_files_cost_little(tmp_path: Path) -> None:
    """A tenth of the files that a listing must hold in 40 MB."""
    for folder in range(20):
        (tmp_path / "many" / f"class-{folder}").mkdir(parents=True)
        for number in range(1_000):
            (tmp_path / "many" / f"class-{folder}" / f"image-{number:06d}.png").touch()
    tracemalloc.start()
    source: Source = scan(str(tmp_path / "many"))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.paths) == 20_000
    assert kept < 2_500_000
    assert peak < 4_000_000


def test_folders_that_may_be_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/")
    roots = default_source_roots(Path("/"))
    assert "/" not in roots
    assert "/data" in roots
    assert default_source_roots(tmp_path)[1] == str(tmp_path)
    assert ObjectStore(url="s3://a/b").source_roots == default_source_roots()
    assert ObjectStore(url="s3://a/b", source_roots=[]).source_roots == []
