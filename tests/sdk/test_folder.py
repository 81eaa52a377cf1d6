"""Model folders: written whole, numbered apart, and refused for whatever training did not write."""

import hashlib
import json
import os
import secrets
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mercato_plugin import FolderError, ModelFolder, folder_versions, publish_folder, read_folder, staged_folder

MODEL = "shop.made"
WEIGHTS = "files/weights.bin"


def staged(models: Path, **files: bytes) -> Path:
    """A folder as training leaves it before it is published; `__` in a name stands for `/`."""
    staging = models / MODEL / f".staging-{secrets.token_hex(4)}"
    (staging / "files").mkdir(parents=True)
    for name, content in (files or {"weights.bin": b"weights"}).items():
        path = staging / "files" / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return staging


def made(models: Path, metrics: Any = None, **facts: Any) -> ModelFolder:
    return publish_folder(staged(models), models, MODEL, metrics or {"f1": 0.5}, facts)


def refused(models: Path, version: int = 1) -> str:
    """The text of the refusal, on reading or on verifying."""
    with pytest.raises(FolderError) as caught:
        read_folder(models, MODEL, version).verify()
    text = str(caught.value)
    assert str(models) not in text and text.isprintable()
    assert text.startswith(f"model folder {MODEL} {version}: ")
    assert text.endswith("; train the model again or bring the folder back")
    return text.removeprefix(f"model folder {MODEL} {version}: ").partition("; train")[0]


def test_what_is_published_is_what_is_read(tmp_path: Path) -> None:
    staging = staged(tmp_path, **{"weights.bin": b"weights", "vocabulary__zh.txt": "好评".encode()})
    metrics, facts = {"f1": np.float32(0.5), "recall.退货 or not": 3}, {"seed": 7, "语": "中文"}
    published = publish_folder(staging, tmp_path, MODEL, metrics, facts)
    found = read_folder(tmp_path, MODEL, 1)

    assert found == published and not staging.exists()
    assert (found.version, found.metrics, found.made) == (1, {"f1": 0.5, "recall.退货 or not": 3.0}, facts)
    assert [entry.name for entry in found.entries] == ["files/vocabulary/zh.txt", WEIGHTS, "metrics.json"]
    assert (found.files / "vocabulary" / "zh.txt").read_text(encoding="utf-8") == "好评"
    found.verify()


def test_a_folder_is_staged_until_it_is_published(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "models", MODEL) as staging:
        (staging / "files" / "weights.bin").write_bytes(b"weights")
        assert folder_versions(tmp_path / "models", MODEL) == []
        published = publish_folder(staging, tmp_path / "models", MODEL, {"f1": 0.5}, {})
    published.verify()
    assert os.listdir(tmp_path / "models" / MODEL) == ["1"]
    assert stat.S_IMODE(published.path.stat().st_mode) == 0o755


def test_what_was_not_published_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="told to"), staged_folder(tmp_path, MODEL) as staging:
        (staging / "files" / "weights.bin").write_bytes(b"weights")
        raise ValueError("told to")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_goes_and_what_another_one_holds_stays(tmp_path: Path) -> None:
    held = "import sys, pathlib; from mercato_plugin import staged_folder as s\n"
    held += f"with s(pathlib.Path(sys.argv[1]), {MODEL!r}) as made: print(made.name, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", held, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        with staged_folder(tmp_path, MODEL) as staging:
            assert sorted(os.listdir(tmp_path / MODEL)) == sorted([name, staging.name])
        other.kill()
    assert os.listdir(tmp_path / MODEL) == [name]
    with staged_folder(tmp_path, MODEL) as staging:
        assert os.listdir(tmp_path / MODEL) == [staging.name]


def test_trainings_that_begin_and_end_together_do_not_take_each_other_s_folder(tmp_path: Path) -> None:
    def stage(_: int) -> bool:
        with staged_folder(tmp_path, MODEL) as staging:
            return (staging / "files").is_dir()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(stage, range(100)))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_text("a file")
    text = f"^model folders of {MODEL} cannot be written: File exists$"
    with pytest.raises(FolderError, match=text), staged_folder(tmp_path, MODEL):
        pass


def test_the_digest_is_of_what_build_reads(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path, {"f1": 0.9}, seed=2)
    other = publish_folder(staged(tmp_path, **{"weights.bin": b"others"}), tmp_path, MODEL, {"f1": 0.5}, {})
    renamed = publish_folder(staged(tmp_path, **{"weight.bin": b"weights"}), tmp_path, MODEL, {"f1": 0.5}, {})
    assert first.digest == second.digest
    assert len({first.digest, other.digest, renamed.digest}) == 3


def test_versions_are_numbers_that_have_a_folder(tmp_path: Path) -> None:
    assert folder_versions(tmp_path, MODEL) == []
    assert [made(tmp_path).version for _ in range(3)] == [1, 2, 3]
    for name in ("0", "01", "-4", "5x", "99999999999", str(2**31), ".staging-1"):
        (tmp_path / MODEL / name).mkdir()
    (tmp_path / MODEL / "6").write_text("no folder")
    os.rename(tmp_path / MODEL / "3", tmp_path / MODEL / "10")
    assert folder_versions(tmp_path, MODEL) == [1, 2, 10]
    assert made(tmp_path).version == 11


def test_trainings_that_end_together_get_numbers_of_their_own(tmp_path: Path) -> None:
    stagings = [staged(tmp_path) for _ in range(16)]
    start, numbers = threading.Barrier(16), list[int]()

    def publish(staging: Path) -> None:
        start.wait()
        numbers.append(publish_folder(staging, tmp_path, MODEL, {"f1": 0.5}, {}).version)

    threads = [threading.Thread(target=publish, args=(staging,)) for staging in stagings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 17)) == folder_versions(tmp_path, MODEL)
    for number in numbers:
        read_folder(tmp_path, MODEL, number).verify()


def test_what_stands_in_the_way_of_a_number_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / "1").write_text("a file")
    (tmp_path / MODEL / "2").symlink_to("nowhere")
    assert made(tmp_path).version == 3


def test_there_is_no_number_beyond_the_highest(tmp_path: Path) -> None:
    (tmp_path / MODEL / str(2**31 - 1)).mkdir(parents=True)
    with pytest.raises(FolderError, match="there is no number left, 2147483647 is the highest"):
        made(tmp_path)


# --- what is not published --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, True, "0.5", None, [0.5]])
def test_metrics_are_finite_numbers(tmp_path: Path, value: Any) -> None:
    with pytest.raises(FolderError, match=f"model folder {MODEL}: metric 'f1' is not a finite number"):
        made(tmp_path, {"f1": value})


@pytest.mark.parametrize("name", ["", " f1", "f1\t", "f\n1", "x" * 129, "\ud800", "\0"])
def test_metrics_have_plain_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(FolderError, match=r"a metric is called .*, expected at most 128 printable characters"):
        made(tmp_path, {name: 0.5})


def test_metrics_are_few(tmp_path: Path) -> None:
    made(tmp_path, {f"m{number}": 1.0 for number in range(2048)})
    with pytest.raises(FolderError, match=r"metrics.json has 2049 metrics, expected at most 2048"):
        made(tmp_path, {f"m{number}": 1.0 for number in range(2049)})


def test_a_manifest_has_a_bound(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"manifest.json would have 20\d+ bytes, expected at most 1048576"):
        made(tmp_path, note="x" * (2 << 20))
    with pytest.raises(FolderError, match=r"manifest.json would hold a lone surrogate"):
        made(tmp_path, note="\ud800")


def link(staging: Path) -> None:
    (staging / "files" / "link").symlink_to("weights.bin")


def linked_folder(staging: Path) -> None:
    (staging / "files" / "link").symlink_to(staging, target_is_directory=True)


def pipe(staging: Path) -> None:
    os.mkfifo(staging / "files" / "link")


def stray(staging: Path) -> None:
    (staging / "notes.txt").write_text("beside files")


def unprintable(staging: Path) -> None:
    (staging / "files" / "a\nb").write_text("two lines")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (link, "'files/link' is neither a file nor a folder of its own"),
        (linked_folder, "'files/link' is neither a file nor a folder of its own"),
        (pipe, "'files/link' is neither a file nor a folder of its own"),
        (stray, "the name of a file is not valid; expected names below files/"),
        (unprintable, "the name of a file is not valid; expected names below files/"),
    ],
)
def test_what_no_reader_would_take_is_not_published(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    staging = staged(tmp_path)
    spoil(staging)
    with pytest.raises(FolderError, match=says):
        publish_folder(staging, tmp_path, MODEL, {"f1": 0.5}, {})
    assert folder_versions(tmp_path, MODEL) == []


@pytest.mark.parametrize("name", ["", "made", "../made.it", "a.b/c", "a.b.c", "A.b", f"{'a' * 40}.{'b' * 40}", "a.b\n"])
def test_the_name_of_a_model_is_no_path(tmp_path: Path, name: str) -> None:
    for call in (
        lambda: read_folder(tmp_path, name, 1),
        lambda: folder_versions(tmp_path, name),
        lambda: publish_folder(staged(tmp_path), tmp_path, name, {}, {}),
    ):
        with pytest.raises(FolderError, match="is no name of a model, such as pricing.linear"):
            call()


# --- what is not read -------------------------------------------------------------------------------------------------


def rewritten(path: Path, content: Any) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def facts(content: bytes = b"weights") -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest(published: ModelFolder, **changes: Any) -> None:
    path = published.path / "manifest.json"
    rewritten(path, {**json.loads(path.read_bytes()), **changes})


def listing(published: ModelFolder, **files: Any) -> None:
    """Enter files into the manifest, or change what it says of them."""
    known = json.loads((published.path / "manifest.json").read_bytes())["files"]
    manifest(published, files={**known, **files})


def metrics(published: ModelFolder, content: Any) -> None:
    """Metrics that the manifest vouches for."""
    path = published.path / "metrics.json"
    rewritten(path, content)
    listing(published, **{"metrics.json": facts(path.read_bytes())})


def replaced_by_a_link(path: Path) -> None:
    target = path.with_name(f"{path.name}.real")
    path.rename(path.parent.parent.parent / target.name)
    path.symlink_to(path.parent.parent.parent / target.name)


def in_place_of(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


UNREADABLE: dict[str, tuple[Callable[[ModelFolder], Any], str]] = {
    "no manifest": (lambda f: (f.path / "manifest.json").unlink(), "manifest.json is missing or cannot be read"),
    "a manifest that is a folder": (
        lambda f: in_place_of(f.path / "manifest.json", os.mkdir),
        "manifest.json is missing or cannot be read",
    ),
    "a manifest that is a link": (
        lambda f: replaced_by_a_link(f.path / "manifest.json"),
        "manifest.json is missing or cannot be read",
    ),
    "a manifest that is a pipe": (
        lambda f: in_place_of(f.path / "manifest.json", os.mkfifo),
        "manifest.json is missing or cannot be read",
    ),
    "half a manifest": (lambda f: rewritten(f.path / "manifest.json", b'{"format": 1'), "manifest.json is not JSON"),
    "no text": (lambda f: rewritten(f.path / "manifest.json", b"\xff\xfe\x00"), "manifest.json is not JSON"),
    "a deep manifest": (lambda f: rewritten(f.path / "manifest.json", b"[" * 100_000), "manifest.json is not JSON"),
    "a long number": (lambda f: rewritten(f.path / "manifest.json", b"1" * 5000), "manifest.json is not JSON"),
    "a manifest that is a list": (lambda f: rewritten(f.path / "manifest.json", []), "manifest.json is list, expected"),
    "a manifest that is too large": (
        lambda f: manifest(f, note="x" * (1 << 20)),
        "manifest.json has more than 1048576 bytes",
    ),
    "another format": (lambda f: manifest(f, format=2), f"manifest.json is not one of format 1 of '{MODEL}'"),
    "true as a format": (lambda f: manifest(f, format=True), f"manifest.json is not one of format 1 of '{MODEL}'"),
    "a fraction as a format": (lambda f: manifest(f, format=1.0), f"manifest.json is not one of format 1 of '{MODEL}'"),
    "another model": (lambda f: manifest(f, model="a" * 5000), f"manifest.json is not one of format 1 of '{MODEL}'"),
    "no files": (lambda f: manifest(f, files=None), "manifest.json lists no metrics.json"),
    "no metrics": (lambda f: manifest(f, files={WEIGHTS: facts()}), "manifest.json lists no metrics.json"),
    "missing metrics": (lambda f: (f.path / "metrics.json").unlink(), "metrics.json is missing or cannot be read"),
    "metrics that are a link": (
        lambda f: replaced_by_a_link(f.path / "metrics.json"),
        "metrics.json is missing or cannot be read",
    ),
    "better metrics": (
        lambda f: rewritten(f.path / "metrics.json", {"f1": 1.0}),
        "metrics.json is not the file that training wrote",
    ),
    "metrics that are no number": (lambda f: metrics(f, b'{"f1": NaN}'), "metric 'f1' is not a finite number"),
    "metrics beyond numbers": (lambda f: metrics(f, b'{"f1": 1' + b"0" * 400 + b"}"), "metric 'f1' is not a finite nu"),
    "metrics with odd names": (lambda f: metrics(f, {"/etc/passwd\n": 1}), r"a metric is called '/etc/passwd\n', expe"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, case: str) -> None:
    spoil, says = UNREADABLE[case]
    spoil(made(tmp_path))
    with pytest.raises(FolderError):
        read_folder(tmp_path, MODEL, 1)
    assert refused(tmp_path).startswith(says)


@pytest.mark.parametrize(
    "name",
    [
        "weights.bin", "files", "files/", "/files/weights.bin", "files/../weights.bin", "files//weights.bin",
        "files/./weights.bin", "../../files/weights.bin", "/etc/passwd", "files\\weights.bin", "files/a\\b",
        "files/a\0b", "files/a\nb", "files/\ud800", "manifest.json", "", f"files/{'a' * 2000}",
    ],
)  # fmt: skip
def test_a_manifest_that_names_what_is_not_below_files_is_refused(tmp_path: Path, name: str) -> None:
    listing(made(tmp_path), **{name: facts()})
    assert refused(tmp_path).startswith("the name of a file is not valid; expected names below files/ of at most 1024")


@pytest.mark.parametrize(
    "entry",
    [
        None, 7, [], {}, {"bytes": 7}, {**facts(), "bytes": -1}, {**facts(), "bytes": True}, {**facts(), "bytes": 7.0},
        {**facts(), "sha256": "0" * 63}, {**facts(), "sha256": "G" * 64}, {**facts(), "sha256": None},
    ],
)  # fmt: skip
def test_a_manifest_without_size_and_hash_of_a_file_is_refused(tmp_path: Path, entry: Any) -> None:
    listing(made(tmp_path), **{WEIGHTS: entry})
    assert refused(tmp_path) == "manifest.json has no size and SHA-256 of 'files/weights.bin'"


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "other bytes": (lambda p: p.write_bytes(b"wEights"), "'files/weights.bin' is not the file that training wrote"),
    "more bytes": (lambda p: p.write_bytes(b"weights!"), "'files/weights.bin' is not the file that training wrote"),
    "no file": (Path.unlink, "'files/weights.bin' is missing"),
    "a folder in its place": (lambda p: in_place_of(p, os.mkdir), "'files/weights.bin' is missing"),
    "a link in its place": (replaced_by_a_link, "'files/weights.bin' is neither a file nor a folder of its own"),
    "a pipe in its place": (lambda p: in_place_of(p, os.mkfifo), "'files/weights.bin' is neither a file nor a folder"),
    "one more file": (lambda p: (p.parent / "more").touch(), "'files/more' is not in the manifest"),
    "a file beside": (lambda p: (p.parent.parent / "more").touch(), "'more' is not in the manifest"),
    "a linked folder": (
        lambda p: (p.parent / "more").symlink_to("/", target_is_directory=True),
        "'files/more' is neither a file nor a folder of its own",
    ),
    "a name in two lines": (lambda p: (p.parent / "a\nb").touch(), r"'files/a\nb' is not in the manifest"),
    "a name that is no text": (lambda p: (p.parent / "\udcff").touch(), r"'files/\udcff' is not in the manifest"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_file_that_training_did_not_write_is_refused(tmp_path: Path, case: str) -> None:
    spoil, says = DAMAGED[case]
    spoil(made(tmp_path).path / WEIGHTS)
    assert refused(tmp_path).startswith(says)


def test_files_behind_a_link_are_not_followed(tmp_path: Path) -> None:
    published = made(tmp_path)
    replaced_by_a_link(published.files)
    assert refused(tmp_path) == "'files' is neither a file nor a folder of its own"


def test_a_version_that_is_a_link_is_refused(tmp_path: Path) -> None:
    published = made(tmp_path)
    (tmp_path / MODEL / "2").symlink_to(published.path, target_is_directory=True)
    assert folder_versions(tmp_path, MODEL) == [1, 2]
    assert refused(tmp_path, 2) == "it is a symbolic link, expected the folder itself"


def test_a_version_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, 4) == "manifest.json is missing or cannot be read"


def test_folders_that_cannot_be_listed_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(FolderError, match=f"^model folders of {MODEL} cannot be read: Permission denied$"):
        folder_versions(tmp_path, MODEL)


@pytest.mark.parametrize(
    ("stand", "why"),
    [
        (lambda path: path.write_text("a file"), "Not a directory"),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    ],
)
def test_what_stands_in_place_of_a_models_folder_is_an_error(
    tmp_path: Path, stand: Callable[[Path], Any], why: str
) -> None:
    stand(tmp_path / MODEL)
    text = f"^model folders of {MODEL} cannot be read: {why}; expected a folder that has one of each version$"
    with pytest.raises(FolderError, match=text):
        folder_versions(tmp_path, MODEL)


def test_where_no_models_stand_there_are_no_versions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("a file")
    assert folder_versions(tmp_path / "plain", MODEL) == folder_versions(tmp_path / "none", MODEL) == []


@pytest.mark.parametrize(("name", "why"), [("x" * 300, "File name too long"), ("a\0b", "embedded null byte")])
def test_a_path_that_is_none_is_an_error(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(FolderError, match=f"^model folders of {MODEL} cannot be read: {why}$"):
        folder_versions(tmp_path / name, MODEL)
