"""Ways to tamper with a stored artifact: what is done to its folder, and what the refusal says."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mercato_plugin.frozen import canonical

GRAPH, DATA = "graphs/model.onnx", "graphs/weights.bin"


@dataclass(frozen=True)
class Stored:
    """One model's artifact in a store: its object and its key file."""

    folder: Path
    key: Path

    def elsewhere(self, name: str) -> Path:
        """A free place outside the object, on the same file system."""
        place = self.key.parent.parent / "elsewhere" / self.folder.name / Path(name).name
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


@dataclass(frozen=True)
class Row:
    """One way to tamper."""

    number: int
    name: str
    tamper: Callable[[Stored], object]
    says: str
    code: str = "ARTIFACT_DAMAGED"

    @property
    def model(self) -> str:
        return "ready." + "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Stored], object]:
    """The file with other bytes in it."""

    def tamper(stored: Stored) -> None:
        path = stored.folder / name
        path.write_bytes(change(path.read_bytes()))

    return tamper


def moved(name: str, kind: Callable[[Path, Path], object]) -> Callable[[Stored], object]:
    """A file or folder taken elsewhere; `kind(elsewhere, here)` puts something in its place."""

    def tamper(stored: Stored) -> None:
        elsewhere = stored.elsewhere(name)
        (stored.folder / name).rename(elsewhere)
        kind(elsewhere, stored.folder / name)

    return tamper


def linked(elsewhere: Path, here: Path) -> None:
    here.symlink_to(elsewhere, target_is_directory=elsewhere.is_dir())


def whole(stored: Stored) -> None:
    elsewhere = stored.elsewhere("object")
    stored.folder.rename(elsewhere)
    stored.folder.symlink_to(elsewhere, target_is_directory=True)


def copied(stored: Stored) -> None:
    shutil.copyfile(stored.folder / GRAPH, stored.folder / "graphs" / "Model.onnx")


def listed_twice(manifest: bytes) -> bytes:
    """One file under one name with two hashes, of which readers of JSON take the last."""
    files = json.dumps(json.loads(manifest)["files"]).encode()
    return manifest.replace(b'"files":{', b'"files":' + files + b',"files":{', 1)


def other_key(stored: Stored) -> None:
    """Another model's artifact under this model's key."""
    others = [path for path in stored.key.parent.iterdir() if path != stored.key and b"ready.good" in path.read_bytes()]
    shutil.copyfile(others[0], stored.key)


def rewritten(stored: Stored) -> None:
    """Garbage that manifest and key vouch for: whoever may write the store may replace what is in it."""
    garbage, manifest = b"\xff" * 64, json.loads((stored.folder / "manifest.json").read_bytes())
    (stored.folder / GRAPH).write_bytes(garbage)
    manifest["files"][GRAPH] = {"size": len(garbage), "sha256": hashlib.sha256(garbage).hexdigest()}
    (stored.folder / "manifest.json").write_bytes(canonical(manifest))
    digest = hashlib.sha256(canonical(manifest)).hexdigest()
    stored.folder.rename(stored.folder.parent / digest)
    stored.key.write_bytes(canonical({"digest": digest, "model": manifest["model"]}))


def key(change: Callable[[Path], object]) -> Callable[[Stored], object]:
    def tamper(stored: Stored) -> None:
        stored.key.unlink()
        change(stored.key)

    return tamper


NOT_ITS_OWN = "is not a regular file of its own"
ROWS = [
    Row(83, "one bit flipped", content(GRAPH, lambda data: data[:-1] + bytes([data[-1] ^ 1])), "has another SHA-256"),
    Row(83, "weights changed", content(DATA, lambda data: bytes(len(data))), f"{DATA!r} has another SHA-256"),
    Row(83, "file cut short", content(GRAPH, lambda data: data[:-1]), "its manifest says"),
    Row(83, "specification changed", content("spec.json", lambda data: data + b" "), "'spec.json' has"),
    Row(83, "certificate emptied", content("certificate.json", lambda data: b""), "'certificate.json' has 0 bytes"),
    Row(83, "extra file", lambda stored: (stored.folder / "files" / "extra.bin").write_bytes(b""), "not in the manif"),
    Row(83, "missing file", lambda stored: (stored.folder / DATA).unlink(), f"{DATA!r} is missing"),
    Row(83, "duplicate file", copied, "'graphs/Model.onnx' is not in the manifest"),
    Row(83, "file listed twice", content("manifest.json", listed_twice), "differs from the artifact's digest"),
    Row(83, "manifest emptied", content("manifest.json", lambda data: b""), "differs from the artifact's digest"),
    Row(83, "no manifest", lambda stored: (stored.folder / "manifest.json").unlink(), "'manifest.json' is missing"),
    Row(83, "manifest as pipe", moved("manifest.json", lambda to, at: os.mkfifo(at)), "'manifest.json' is missing"),
    Row(83, "linked file", moved(GRAPH, linked), f"{GRAPH!r} is not a regular file"),
    Row(83, "linked folder", moved("graphs", linked), "'graphs' is not a regular file"),
    Row(83, "linked object", whole, "'manifest.json' differs from the artifact's digest"),
    Row(83, "hard link", moved(GRAPH, lambda to, at: os.link(to, at)), f"{GRAPH!r} {NOT_ITS_OWN}"),
    Row(83, "file as pipe", moved(GRAPH, lambda to, at: os.mkfifo(at)), f"{GRAPH!r} is not a regular file"),
    Row(83, "file as folder", moved(GRAPH, lambda to, at: at.mkdir()), f"{GRAPH!r} is missing"),
    Row(83, "no object", moved(".", lambda to, at: None), "'manifest.json' is missing"),
    Row(83, "key of another model", other_key, "'manifest.json' is that of another key"),
    Row(83, "key that is garbage", key(lambda path: path.write_bytes(b"\0" * 64)), "a key file of the artifact store"),
    Row(83, "key nested deeply", key(lambda path: path.write_bytes(b"[" * 10**5)), "a key file of the artifact store"),
    Row(83, "key that leads outside", key(lambda path: path.write_text(
        '{"digest": "../../../../etc", "model": "ready.good"}')), "a key file of the artifact store"),
    Row(83, "key as pipe", key(os.mkfifo), "a key file of the artifact store"),
    Row(83, "key as link", key(lambda path: path.symlink_to("/etc/hostname")), "a key file of the artifact store"),
    Row(83, "rewritten with its manifest", rewritten, "graph 'model' cannot be loaded on cpu", "LOAD_FAILED"),
]  # fmt: skip
