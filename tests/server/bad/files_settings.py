"""Settings files that must not come through: how each is made, and what the refusal says."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILE = "mercato.toml"


@dataclass(frozen=True)
class Row:
    """One settings file; without a `says` the server starts."""

    number: int
    name: str
    make: Callable[[Path], object]
    says: str


def text(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def linked(path: Path) -> None:
    """As a mounted volume has it."""
    target = path.with_name("content")
    target.write_text("strict = true\n")
    path.symlink_to(target)


ROWS = [
    Row(84, "unknown key", text("stricd = true\n"), "stricd: "),
    Row(84, "unknown key of a model", text('[models."shop.x"]\nlable = 1\n'), "models.shop.x.lable: "),
    Row(84, "wrong type", text('threads = "many"\n'), "threads: "),
    Row(84, "table as a number", text("plugins = 3\n"), "plugins: "),
    Row(84, "number out of range", text("max_requests = 0\n"), "max_requests: "),
    Row(84, "infinite number", text("default_deadline = inf\n"), "default_deadline: "),
    Row(84, "number of 5000 digits", text(f"threads = {'9' * 5000}\n"), f"{FILE} is not valid TOML"),
    Row(84, "duplicate key", text("strict = true\nstrict = false\n"), "is not valid TOML: Cannot overwrite a value"),
    Row(84, "duplicate table", text("[models]\n[models]\n"), "is not valid TOML"),
    Row(84, "byte order mark", text(b"\xef\xbb\xbfstrict = true\n"), "begins with a byte order mark"),
    Row(84, "UTF-16", text("strict = true\n".encode("utf-16")), "is not valid TOML"),
    Row(84, "not UTF-8", text(b'listen = "\xff\xfe"\n'), "is not valid TOML"),
    Row(84, "NUL", text(b"strict = true\0\n"), "is not valid TOML"),
    Row(84, "ten megabytes", text("# comment\n" * 10**6), f"has 10000000 bytes, expected at most {1 << 20}"),
    Row(84, "brackets nested deeply", text("plugins = " + "[" * 10**5), "is not valid TOML"),
    Row(84, "keys nested deeply", text("a" + ".a" * 2_000 + " = 1\n"), "a: "),
    Row(84, "no end", text('listen = "127'), "is not valid TOML"),
    Row(84, "folder", lambda path: path.mkdir(), f"{FILE} "),
    Row(84, "pipe", os.mkfifo, f"{FILE} is not a regular file"),
    Row(84, "device", lambda path: path.symlink_to("/dev/zero"), f"{FILE} is not a regular file"),
    Row(84, "link without a target", lambda path: path.symlink_to("/nowhere/at/all"), "does not exist"),
    Row(84, "link to a file", linked, ""),
    Row(84, "empty", text(""), ""),
]  # fmt: skip
