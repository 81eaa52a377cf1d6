"""The store: published atomically, found by key, verified at every opening."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from mercato_plugin import ModelSpec, Tensor
from mercato_plugin.frozen import canonical, freeze
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.certificate import Certificate
from mercato_server.errors import ArtifactDamaged, ConfigError
from mercato_server.export.tools import is_current
from mercato_server.store import Store, artifact_key, tree_hash

KEY = "4b" * 32
SPEC = ModelSpec(
    name="shop.tiny",
    inputs={"x": Tensor("float32", ("batch", 1))},
    outputs={"y": Tensor("float32", ("batch", 1))},
)
CERTIFICATE = Certificate("source", True, (), (), ("parity",), 20, "cpu")


def fill(folder: Path, weights: bytes = b"graph") -> None:
    (folder / "graphs").mkdir()
    (folder / "files").mkdir()
    (folder / "graphs" / "model.onnx").write_bytes(weights)
    (folder / "spec.json").write_bytes(canonical(freeze(SPEC)))
    (folder / "certificate.json").write_text(json.dumps(CERTIFICATE.to_json()))
    (folder / "examples.json").write_text("[]")


def publish(store: Store, weights: bytes = b"graph", tools: dict[str, str] | None = None) -> Artifact:
    with store.staging() as folder:
        fill(folder, weights)
        return store.publish(
            folder, KEY, model=SPEC.name, plugin="mercato-tiny", plugin_version="1.0", tools=tools or {"onnx": "1"}
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_was_published_is_found_by_key_and_by_digest(store: Store) -> None:
    published = publish(store)

    assert store.find(KEY) == published == store.open(published.digest)
    assert published.graph("model").read_bytes() == b"graph"
    assert (published.spec, published.certificate) == (SPEC, CERTIFICATE)
    assert (published.plugin, published.plugin_version, published.tools) == ("mercato-tiny", "1.0", {"onnx": "1"})


def test_an_unknown_key_is_none_and_writes_nothing(store: Store) -> None:
    assert store.find(KEY) is None
    assert not store.root.exists()


def test_staging_leaves_nothing_behind(store: Store) -> None:
    publish(store)
    with pytest.raises(KeyError), store.staging() as folder:
        (folder / "half").write_text("written")
        raise KeyError

    assert list((store.root / "staging").iterdir()) == []


def test_a_sweep_removes_what_killed_exporters_left(store: Store) -> None:
    with store.staging() as folder:
        (folder / "half").write_text("written")
        store.sweep()
        assert not folder.exists()


def flip(folder: Path) -> None:
    (folder / "graphs" / "model.onnx").write_bytes(b"grapH")


def lengthen(folder: Path) -> None:
    (folder / "graphs" / "model.onnx").write_bytes(b"graph!")


def add(folder: Path) -> None:
    (folder / "files" / "extra.bin").write_bytes(b"")


def remove(folder: Path) -> None:
    (folder / "graphs" / "model.onnx").unlink()


def link(folder: Path) -> None:
    target = folder.parent / "elsewhere.onnx"
    (folder / "graphs" / "model.onnx").rename(target)
    (folder / "graphs" / "model.onnx").symlink_to(target)


def link_folder(folder: Path) -> None:
    (folder / "graphs").rename(folder.parent / "graphs-elsewhere")
    (folder / "graphs").symlink_to(folder.parent / "graphs-elsewhere")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "files" / "pipe")


def manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b" ")


def whole(folder: Path) -> None:
    folder.rename(folder.parent / "moved")


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (flip, "'graphs/model.onnx' has another SHA-256"),
        (lengthen, "'graphs/model.onnx' has 6 bytes, its manifest says 5"),
        (add, "'files/extra.bin' is not in the manifest"),
        (remove, "'graphs/model.onnx' is missing"),
        (link, "'graphs/model.onnx' is not a regular file"),
        (link_folder, "'graphs' is not a regular file"),
        (pipe, "'files/pipe' is not a regular file"),
        (manifest, "'manifest.json' differs from the artifact's digest"),
        (whole, "'manifest.json' is missing"),
    ],
)
def test_tampering_is_refused_and_published_anew(store: Store, tamper: Callable[[Path], None], told: str) -> None:
    published = publish(store)
    tamper(published.folder)

    with pytest.raises(ArtifactDamaged) as caught:
        store.find(KEY)

    assert "'shop.tiny'" in str(caught.value) and told in str(caught.value)
    assert str(store.root) not in str(caught.value)
    assert publish(store) == published == store.find(KEY)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"digest": "../../etc", "model": "shop.tiny"}'])
def test_a_key_file_that_the_store_did_not_write_is_refused(store: Store, content: bytes) -> None:
    publish(store)
    (store.root / "keys" / f"{KEY}.json").write_bytes(content)

    with pytest.raises(ArtifactDamaged, match="key file"):
        store.find(KEY)


def test_the_first_of_two_with_one_key_wins_unless_the_tools_differ(store: Store) -> None:
    first = publish(store, b"first")

    assert publish(store, b"second") == first
    assert publish(store, b"third", {"onnx": "2"}).graph("model").read_bytes() == b"third"


RACER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store import publish, Store
print("ready", flush=True)
sys.stdin.read(1)
print(publish(Store(Path(sys.argv[2])), sys.argv[3].encode()).digest, flush=True)
"""


def test_two_processes_publishing_one_key_at_once_agree(store: Store) -> None:
    here = str(Path(__file__).parent)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, here, str(store.root), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("left", "right")
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    digests = {racer.communicate("g")[0] for racer in racers}

    assert len(digests) == 1
    found = store.find(KEY)
    assert found is not None and {found.digest + "\n"} == digests
    assert len(list((store.root / "objects").iterdir())) == 1


def test_a_lock_keeps_other_holders_out(store: Store) -> None:
    with store.lock("key"), (store.root / "locks" / "key").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with (store.root / "locks" / "key").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def key_of(**changes: object) -> str:
    parts: dict[str, object] = {
        "plugin": "mercato-tiny",
        "version": "1.0",
        "source_hash": "s",
        "model_folder_hash": None,
        "spec": SPEC,
        "settings": {"size": 3},
    }
    return artifact_key(**{**parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"plugin": "mercato-other"},
        {"version": "1.1"},
        {"source_hash": "t"},
        {"model_folder_hash": "m"},
        {"spec": replace(SPEC, opset=21)},
        {"spec": replace(SPEC, version=SPEC.version + 1)},
        {"settings": {"size": 4}},
    ],
)
def test_every_part_enters_the_key(change: dict[str, object]) -> None:
    assert key_of() == key_of()
    assert key_of(**change) != key_of()


def test_a_path_setting_counts_by_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "weights").write_bytes(b"w")

    assert key_of(settings={"folder": one}) == key_of(settings={"folder": two})
    (two / "weights").write_bytes(b"v")
    assert key_of(settings={"folder": one}) != key_of(settings={"folder": two})


def test_a_setting_without_canonical_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="'size' holds object"):
        key_of(settings={"size": object()})


def test_a_tree_hash_follows_links_and_ignores_compiled_files(tmp_path: Path) -> None:
    plain, linked = tmp_path / "plain", tmp_path / "linked"
    (plain / "sub").mkdir(parents=True)
    (plain / "sub" / "file").write_bytes(b"content")
    before = tree_hash(plain)
    (plain / "__pycache__").mkdir()
    (plain / "__pycache__" / "file.pyc").write_bytes(b"compiled")
    linked.mkdir()
    (linked / "sub").symlink_to(plain / "sub")
    (plain / "sub" / "loop").symlink_to(plain / "sub")

    assert tree_hash(plain) == before == tree_hash(linked)
    (plain / "sub" / "file").rename(plain / "sub" / "renamed")
    assert tree_hash(plain) != before


def test_an_artifact_is_current_unless_the_tools_that_made_it_changed(store: Store) -> None:
    installed = {"onnx": version("onnx")}
    artifact = publish(store, tools=installed)

    assert is_current(artifact)
    assert not is_current(replace(artifact, tools={"onnx": "0.1"}))
    assert is_current(replace(artifact, tools={**installed, "onnxruntime": "0.1"}))
    assert is_current(replace(artifact, tools={"onnx": "0.1", "a-tool-that-is-absent": "1"}))
