"""Folders in the making: each is held by the process that fills it, so that those of killed processes can go.

What is held is the folder's own descriptor: the system lets go of it when the process ends, however it ends.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".staged-"


def staging_in(parent: Path) -> tuple[Path, int]:
    """A new folder in `parent`, and the descriptor that holds it, to be closed; what nobody holds is removed.

    Raises OSError.
    """
    with _alone(parent):
        _sweep(parent)
        staging = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        return staging, _held(staging)


def remove_empty(parent: Path) -> None:
    """Remove a folder that holds nothing; any other stays."""
    with contextlib.suppress(OSError), _alone(parent):
        parent.rmdir()


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """The folder, made where it is absent, while no other process is in here with it. Raises OSError."""
    descriptor = -1
    while descriptor < 0:
        parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            descriptor = _held(parent)
            if not _is_there(parent, descriptor):
                os.close(descriptor)
                descriptor = -1
    try:
        yield
    finally:
        os.close(descriptor)


def _is_there(folder: Path, descriptor: int) -> bool:
    """Whether it is still the folder of that name: another process may have removed it while this one waited."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def _held(folder: Path, *, waits: bool = True) -> int:
    """A descriptor that holds the folder. Raises OSError; BlockingIOError for one that another process holds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        if not waits:
            os.close(descriptor)
            raise
        # Some network file systems have no locks: nothing is swept there then.
    return descriptor


def _sweep(parent: Path) -> None:
    """Remove folders in the making that no process holds."""
    for staging in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = _held(staging, waits=False)
            shutil.rmtree(staging, ignore_errors=True)
            os.close(descriptor)
