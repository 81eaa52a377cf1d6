"""Locks on objects: shared for as long as somebody uses one, exclusive for the moment in which it is taken out."""

import fcntl
import os
import weakref
from pathlib import Path


class Hold:
    """The folder of one object, open and locked, until `release` or until nobody refers to the hold any more.

    The lock is the kernel's: it ends with the process, however that ends, and a read-only store can be locked too.
    """

    def __init__(self, folder: Path, how: int) -> None:
        """Raises BlockingIOError when `how` does not wait and others hold it, OSError when it cannot be opened."""
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self.release = weakref.finalize(self, os.close, self._descriptor)
        try:
            fcntl.flock(self._descriptor, how)
        except OSError:
            self.release()
            raise

    def is_of(self, folder: Path) -> bool:
        """Whether the folder of that name is still the one that is held."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), folder.lstat())
        except FileNotFoundError:
            return False


def shared(folder: Path) -> Hold | None:
    """Hold an object for use; None when it is not there, is taken out just now, or cannot be locked."""
    try:
        hold = Hold(folder, fcntl.LOCK_SH)
    except OSError:
        return None
    return hold if hold.is_of(folder) else None


def exclusive(folder: Path) -> Hold | None:
    """Hold an object against everybody; None when somebody uses it, or when that cannot be known.

    Raises FileNotFoundError when it is not there.
    """
    try:
        return Hold(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        raise
    except OSError:
        return None
