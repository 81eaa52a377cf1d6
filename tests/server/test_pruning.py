"""What has not been used for long leaves the store; what anybody needs stays, whatever happens meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server.conftest import Start
from tests.server.running import MERCATO, Running
from tests.server.test_store import SPEC, fill

from mercato_server.contract.artifact import Artifact
from mercato_server.errors import ConfigError
from mercato_server.store import Store, pruning
from mercato_server.store.holding import Hold, exclusive
from mercato_server.store.inventory import Inventory, read
from mercato_server.store.pruning import Fate, Pruned, prune

DAY = 86_400.0
OLD, OTHER = "0a" * 32, "0b" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, key: str, weights: bytes = b"graph", *, days: float = 0) -> Artifact:
    """Publish by a process that has ended, and was the last to open it so many days ago."""
    mine = Store(store.root)
    with mine.staging() as folder:
        fill(folder, weights)
        tools = {"onnx": "1"}
        artifact = mine.publish(folder, key, model=SPEC.name, plugin="mercato-tiny", plugin_version="1.0", tools=tools)
    age(store, days)
    return artifact


def age(store: Store, days: float) -> None:
    """Every key was used so many days ago."""
    for path in (store.root / "keys").iterdir():
        os.utime(path, (time.time() - days * DAY,) * 2)


def pruned(store: Store, days: float = 30, *, dry_run: bool = False) -> list[Pruned]:
    return prune(store, read(store.root), days * DAY, dry_run=dry_run, on_progress=lambda done, total: None)


def fates(outcomes: list[Pruned]) -> list[tuple[Fate, int]]:
    return [(outcome.fate, outcome.keys) for outcome in outcomes]


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def objects(store: Store) -> list[str]:
    return [path.name for path in (store.root / "objects").iterdir()]


# --- what goes and what stays -----------------------------------------------------------------------------------------


def test_what_was_unused_for_long_goes_and_its_size_is_told(store: Store) -> None:
    artifact = publish(store, OLD, days=31)

    (outcome,) = pruned(store)

    assert (outcome.fate, outcome.keys, outcome.stored.model) == (Fate.REMOVED, 1, "shop.tiny")
    assert outcome.stored.nbytes is not None and outcome.stored.nbytes > len(b"graph")
    assert (store.find(OLD), objects(store), list((store.root / "staging").iterdir())) == (None, [], [])
    assert not artifact.folder.exists()


def test_what_was_used_lately_stays(store: Store) -> None:
    publish(store, OLD, days=29)

    assert pruned(store) == []
    assert store.find(OLD) is not None


def test_opening_by_key_is_a_use(store: Store) -> None:
    publish(store, OLD, days=31)
    assert Store(store.root).find(OLD) is not None

    assert pruned(store) == []


def test_a_store_that_cannot_record_a_use_opens_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish(store, OLD)

    def read_only(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", read_only)

    assert store.find(OLD) == published


def test_an_object_stays_while_another_key_refers_to_it(store: Store) -> None:
    artifact = publish(store, OLD)
    shutil.copy(store.root / "keys" / f"{OLD}.json", store.root / "keys" / f"{OTHER}.json")
    os.utime(store.root / "keys" / f"{OTHER}.json", (0, 0))

    assert fates(pruned(store)) == [(Fate.KEYS_REMOVED, 1)]
    assert (Store(store.root).find(OLD), Store(store.root).find(OTHER)) == (artifact, None)


def test_an_object_that_no_key_refers_to_goes_at_once(store: Store) -> None:
    publish(store, OLD)
    (store.root / "keys" / f"{OLD}.json").unlink()

    assert fates(pruned(store)) == [(Fate.REMOVED, 0)]


def test_a_key_of_an_object_that_is_missing_goes_when_it_is_old(store: Store) -> None:
    shutil.rmtree(publish(store, OLD, days=29).folder)
    assert pruned(store) == []
    age(store, 31)

    assert fates(pruned(store)) == [(Fate.REMOVED, 1)]
    assert store.find(OLD) is None


def test_what_is_open_stays_and_counts_as_used(store: Store) -> None:
    opened = Store(store.root)
    publish(store, OLD)
    assert opened.find(OLD) is not None
    age(store, 31)

    assert fates(pruned(store)) == [(Fate.IN_USE, 0)]
    del opened
    assert pruned(store) == []
    age(store, 31)
    assert fates(pruned(store)) == [(Fate.REMOVED, 1)]


def test_a_dry_run_foresees_and_changes_nothing(store: Store) -> None:
    publish(store, OLD, days=31)
    before = everything(store.root)

    assert fates(pruned(store, dry_run=True)) == [(Fate.REMOVED, 1)] == fates(pruned(store, dry_run=True))
    assert everything(store.root) == before


def test_a_store_may_itself_be_a_link(store: Store, tmp_path: Path) -> None:
    publish(store, OLD, days=31)
    (tmp_path / "link").symlink_to(store.root)

    assert read(tmp_path / "link").strangers == {}
    (tmp_path / "link" / "notes.txt").write_text("mine")
    assert list(read(tmp_path / "link").strangers) == ["notes.txt"]
    assert fates(pruned(Store(tmp_path / "link"))) == [(Fate.REMOVED, 1)]


def test_a_store_that_is_not_there_stays_that_way(store: Store) -> None:
    assert (read(store.root), pruned(store)) == (Inventory(), [])
    assert not store.root.exists()


# --- what others do meanwhile -----------------------------------------------------------------------------------------


def test_what_an_export_is_writing_stays(store: Store) -> None:
    with store.lock("export"), store.staging() as folder:
        fill(folder)
        pruned(store)
        assert len(list(folder.iterdir())) == 5
    with store.staging() as left:
        pruned(store)
        assert not left.exists()


def test_an_object_is_not_judged_between_its_publishing_and_that_of_its_key(store: Store) -> None:
    publish(store, OLD)
    key = store.root / "keys" / f"{OLD}.json"
    content = key.read_bytes()
    key.unlink()
    found = read(store.root)

    class Publishing(Store):
        def lock(self, key_file: str, *, wait: bool = True):  # type: ignore[no-untyped-def]  # noqa: ANN202
            if key_file == "publish":
                key.write_bytes(content)
            return super().lock(key_file, wait=wait)

    outcomes = prune(Publishing(store.root), found, DAY, dry_run=False, on_progress=lambda done, total: None)

    assert outcomes == []
    assert store.find(OLD) is not None


def test_two_prunes_at_once_remove_once(store: Store) -> None:
    for number in range(3):
        publish(store, f"{number}" * 64, str(number).encode(), days=31)
    inner: list[list[Pruned]] = []

    def while_the_other_runs(done: int, total: int) -> None:
        if done == 1:
            inner.append(pruned(store))

    outer = prune(store, read(store.root), DAY, dry_run=False, on_progress=while_the_other_runs)

    assert (len(outer), len(inner[0])) == (1, 2)
    assert (objects(store), everything(store.root / "keys")) == ([], set())


def test_somebody_who_merely_looks_does_not_make_an_object_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish(store, OLD, days=31).folder
    found, looking = read(store.root), exclusive(folder)
    assert looking is not None
    monkeypatch.setattr(pruning, "_PAUSE", 0)
    looks = iter((None, None, exclusive))

    def third_time(folder: Path) -> Hold | None:
        look = next(looks)
        if look is not None:
            looking.release()
        return exclusive(folder)

    monkeypatch.setattr(pruning, "exclusive", third_time)
    outcomes = prune(store, found, DAY, dry_run=False, on_progress=lambda done, total: None)

    assert fates(outcomes) == [(Fate.REMOVED, 1)]


def test_an_object_taken_out_while_it_is_looked_for_is_as_if_it_had_never_been(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, OLD, days=31)
    hold = Store._hold

    def after_a_prune(self: Store, digest: str) -> bool:
        monkeypatch.setattr(Store, "_hold", hold)
        assert fates(pruned(Store(store.root))) == [(Fate.REMOVED, 1)]
        return hold(self, digest)

    monkeypatch.setattr(Store, "_hold", after_a_prune)

    assert store.find(OLD) is None


MOMENTS = {
    "the keys are gone": "Store.set_aside = die",
    "the object is set aside": "pruning.shutil.rmtree = die",
    "the object is half deleted": "unlink = os.unlink; calls = []; os.unlink = lambda *a, **k: "
    "(calls.append(1), die() if len(calls) > 3 else unlink(*a, **k))",
}
KILLED = """
import os, signal, sys
from pathlib import Path
from mercato_server.store import Store, pruning
from mercato_server.store.inventory import read
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
exec(sys.argv[2])
root = Path(sys.argv[1])
pruning.prune(Store(root), read(root), 86400.0, dry_run=False, on_progress=lambda done, total: None)
"""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_prune_that_is_killed_leaves_a_store_that_opens_and_the_next_one_finishes(store: Store, moment: str) -> None:
    publish(store, OLD, days=31)
    publish(store, OTHER, b"other", days=0)
    os.utime(store.root / "keys" / f"{OLD}.json", (0, 0))
    script = [sys.executable, "-c", KILLED, str(store.root), MOMENTS[moment]]
    assert subprocess.run(script, check=False).returncode == -signal.SIGKILL

    fresh = Store(store.root)
    assert fresh.find(OLD) is None
    kept = fresh.find(OTHER)
    assert kept is not None and kept.graph("model").read_bytes() == b"other"
    pruned(store)
    assert (objects(store), list((store.root / "staging").iterdir())) == ([kept.digest], [])
    assert publish(store, OLD).graph("model").read_bytes() == b"graph"


# --- what the store did not write -------------------------------------------------------------------------------------


def own_file(store: Store) -> str:
    (store.root / "notes.txt").write_text("mine")
    return "notes.txt"


def own_key(store: Store) -> str:
    (store.root / "keys" / "readme").write_text("mine")
    return "keys/readme"


def broken_key(store: Store) -> str:
    (store.root / "keys" / f"{OTHER}.json").write_text("{")
    return f"keys/{OTHER}.json"


def linked_key(store: Store) -> str:
    (store.root / "keys" / f"{OTHER}.json").symlink_to(store.root / "keys" / f"{OLD}.json")
    return f"keys/{OTHER}.json"


def own_object(store: Store) -> str:
    (store.root / "objects" / "mine").mkdir()
    return "objects/mine"


def no_manifest(store: Store) -> str:
    (store.root / "objects" / OTHER).mkdir()
    return f"objects/{OTHER}"


def linked_object(store: Store) -> str:
    (folder,) = (store.root / "objects").iterdir()
    folder.rename(store.root.parent / "elsewhere")
    folder.symlink_to(store.root.parent / "elsewhere")
    return f"objects/{folder.name}"


def file_inside(store: Store) -> str:
    (folder,) = (store.root / "objects").iterdir()
    (folder / "files" / "notes.txt").write_text("mine")
    return f"objects/{folder.name}"


def link_inside(store: Store) -> str:
    (folder,) = (store.root / "objects").iterdir()
    (folder / "graphs" / "model.onnx").unlink()
    (folder / "graphs" / "model.onnx").symlink_to("/dev/null")
    return f"objects/{folder.name}"


def linked_staging(store: Store) -> str:
    (store.root / "staging").rename(store.root.parent / "elsewhere")
    (store.root / "staging").symlink_to(store.root.parent / "elsewhere")
    (store.root.parent / "elsewhere" / "mine").mkdir()
    return "staging"


def linked_objects(store: Store) -> str:
    (store.root / "objects").rename(store.root.parent / "elsewhere")
    (store.root / "objects").symlink_to(store.root.parent / "elsewhere")
    return "objects"


STRANGERS = (own_file, own_key, broken_key, linked_key, own_object, no_manifest, linked_staging)
STRANGE = (linked_object, file_inside, link_inside, linked_objects)


@pytest.mark.parametrize("make", [*STRANGERS, *STRANGE])
def test_what_the_store_did_not_write_is_left_alone_and_named(store: Store, make: Callable[[Store], str]) -> None:
    publish(store, OLD, days=31)
    name = make(store)
    before = everything(store.root.parent)

    assert list(read(store.root).strangers) == [name]
    outcomes = pruned(store)

    gone = before - everything(store.root.parent)
    assert (fates(outcomes) == [(Fate.REMOVED, 1)]) == (make in STRANGERS)
    assert not any(path.startswith((f"store/{name}", "elsewhere")) for path in gone)


def test_a_store_that_cannot_be_read_or_changed_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, OLD, days=31)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_aside", refuse)
        with pytest.raises(ConfigError, match="the store cannot be changed: Permission denied"):
            pruned(store)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match="the store cannot be read: Permission denied"):
        read(store.root)


# --- as a shell sees it -----------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    done = subprocess.run([str(MERCATO), "store", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def filled(server: Running) -> Path:
    """A store with the reference models."""
    return server.home.parent / "store"


def test_a_running_server_keeps_what_it_has_open(filled: Path, start: Start, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(filled, mine)
    kept = start(mine)
    kept.ready()
    age(Store(mine), 31)

    report = json.loads(run("prune", "--json", "--store", str(mine)))
    states = {row["model"]: row["state"] for row in report["objects"]}
    # Other tests may have put a model of their own into the shared store.
    assert states.pop("pricing.linear") == "IN_USE"
    assert states["semantic.encoder"] == "REMOVED" and set(states.values()) == {"REMOVED"}
    assert report["freed_bytes"] > 10_000_000
    kept.kill()
    age(Store(mine), 31)
    assert "would remove 1 objects" in run("prune", "--dry-run", "--store", str(mine))
    assert "removed 0 objects" in run("prune", "--unused-for", "32", "--store", str(mine))
    assert "pricing.linear" in run("list", "--store", str(mine))
    assert "removed 1 objects" in run("prune", "--store", str(mine))
    assert json.loads(run("list", "--json", "--store", str(mine))) == {"objects": [], "strangers": {}}
