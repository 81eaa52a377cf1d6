"""Removing what has not been used for long: never what a running process has open, nor what an export is writing."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mercato_server.errors import ConfigError
from mercato_server.store.artifacts import Store, flush
from mercato_server.store.holding import Hold, exclusive
from mercato_server.store.inventory import Inventory, Key, Stored, keys_of

OnProgress = Callable[[int, int], None]

_TRIES = 3
_PAUSE = 0.01


class Fate(Enum):
    """What became of an object."""

    REMOVED = "REMOVED"
    KEYS_REMOVED = "KEYS_REMOVED"
    """Another key, which was used lately, still refers to it."""
    IN_USE = "IN_USE"
    """A running process has it open."""


@dataclass(frozen=True)
class Pruned:
    """What became of one object that was unused for long enough; `keys` is the number of keys that were removed."""

    stored: Stored
    fate: Fate
    keys: int


def prune(store: Store, found: Inventory, unused_for: float, *, dry_run: bool, on_progress: OnProgress) -> list[Pruned]:
    """Remove keys that were last used more than `unused_for` seconds ago, and objects that no key refers to.

    A process that is killed in the middle leaves a store that opens: keys go first, then the object is renamed
    away, then deleted. Several may prune at once. With `dry_run` nothing changes. Raises ConfigError when the
    store cannot be changed.
    """
    oldest = time.time() - unused_for
    wanted = [item for item in found.objects if not item.keys or _stale(item.keys, oldest)]
    try:
        if not dry_run and store.root.is_dir():
            _sweep(store)
        pruned = []
        for done, item in enumerate(wanted):
            on_progress(done, len(wanted))
            pruned.append(_foreseen(item, oldest) if dry_run else _prune_one(store, item, oldest))
        on_progress(len(wanted), len(wanted))
    except OSError as error:
        raise ConfigError(f"the store cannot be changed: {error.strerror}") from None
    return [outcome for outcome in pruned if outcome is not None]


def _sweep(store: Store) -> None:
    """Remove what killed exports and killed prunes left, unless an export is running."""
    with contextlib.suppress(BlockingIOError), store.lock("export", wait=False):
        store.sweep()


def _foreseen(item: Stored, oldest: float) -> Pruned:
    stale = _stale(item.keys, oldest)
    if item.in_use:
        return Pruned(item, Fate.IN_USE, 0)
    return Pruned(item, Fate.REMOVED if len(stale) == len(item.keys) else Fate.KEYS_REMOVED, len(stale))


def _prune_one(store: Store, item: Stored, oldest: float) -> Pruned | None:
    """What became of it; None when it is gone already, or was used meanwhile."""
    folder = store.root / "objects" / item.digest
    # An export publishes its object before its key: until it has, the object looks like one that nobody needs.
    with store.lock("publish"):
        try:
            hold = _exclusive(folder)
        except FileNotFoundError:
            return _forget_missing(store, item, oldest)
        keys = keys_of(store.root, item.digest)
        if hold is None:
            _record_use(keys)
            return Pruned(item, Fate.IN_USE, 0)
        stale = _stale(keys, oldest)
        if keys and not stale:
            return None
        _forget(store, stale)
        if len(stale) < len(keys):
            return Pruned(item, Fate.KEYS_REMOVED, len(stale))
        aside = store.set_aside(folder)
        hold.release()
    shutil.rmtree(aside, ignore_errors=True)
    return Pruned(item, Fate.REMOVED, len(stale))


def _exclusive(folder: Path) -> Hold | None:
    """As `exclusive`; whoever merely looks at the store locks an object for microseconds, and is waited for."""
    for _ in range(_TRIES):
        if hold := exclusive(folder):
            return hold
        time.sleep(_PAUSE)
    return None


def _forget_missing(store: Store, item: Stored, oldest: float) -> Pruned | None:
    """Remove the keys of an object that is not there."""
    stale = _stale(keys_of(store.root, item.digest), oldest)
    _forget(store, stale)
    return Pruned(item, Fate.REMOVED, len(stale)) if stale else None


def _forget(store: Store, keys: Sequence[Key]) -> None:
    for key in keys:
        key.path.unlink(missing_ok=True)
    if keys:
        # A key that came back after a power cut would point to an object that is gone.
        flush(store.root / "keys")


def _record_use(keys: Sequence[Key]) -> None:
    for key in keys:
        with contextlib.suppress(FileNotFoundError):
            os.utime(key.path)


def _stale(keys: Sequence[Key], oldest: float) -> list[Key]:
    return [key for key in keys if key.used < oldest]
