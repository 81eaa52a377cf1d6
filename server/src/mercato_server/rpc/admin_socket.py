"""The file of the admin socket: only its owner can reach it, and it never takes the place of a living server's."""

import errno
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from mercato_server.errors import ConfigError

SCHEME = "unix:"
# What the kernel takes.
MAX_PATH_BYTES = 107
# A socket is made in a folder of its own beside its place: eight characters, a slash and its name.
_FRESH = "s"
_FRESH_BYTES = 8 + 1 + len(_FRESH)
_WAY_OUT = "set admin_listen to unix:PATH in a folder of your own, or to off"


class AdminSocket:
    """One socket by its path. Construction touches nothing; `place` does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None

    def place(self, bind: Callable[[str], object]) -> None:
        """Have `bind` make a listening socket at a gRPC address, and move it to its path once nobody else can reach it.

        The folder is made where it is missing. Raises ConfigError.
        """
        self._check_length()
        with _locked(self._path.parent):
            self._check_place()
            _sweep(self._path.parent)
            private = tempfile.mkdtemp(prefix="", dir=self._path.parent)
            try:
                fresh = os.path.join(private, _FRESH)
                bind(address(fresh))
                os.chmod(fresh, 0o600)
                self._file = _identity(fresh)
                os.rename(fresh, self._path)
            finally:
                shutil.rmtree(private)

    def remove(self) -> None:
        """Remove the file, unless it is no longer the one that was placed."""
        with suppress(ConfigError, OSError), _locked(self._path.parent):
            if self._file is not None and _identity(self._path) == self._file:
                self._path.unlink()

    def _check_length(self) -> None:
        size = len(os.fsencode(self._path))
        limit = MAX_PATH_BYTES - max(0, _FRESH_BYTES - len(os.fsencode(self._path.name)))
        if size > limit:
            raise ConfigError(
                f"admin_listen: the path of the socket has {size} bytes, expected at most {limit}; {_WAY_OUT}"
            )

    def _check_place(self) -> None:
        """gRPC would remove whatever socket is there, a living server's too."""
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ConfigError(f"admin_listen: {self._path.name!r} is there and is no socket; remove it, or {_WAY_OUT}")
        if not _is_dead(self._path):
            raise ConfigError(f"admin_listen: a server listens on {self._path.name!r} already; stop it, or {_WAY_OUT}")


def address(path: str | Path) -> str:
    """How gRPC is told of a socket: it reads the path as that of a URI."""
    return SCHEME + quote(os.fsencode(path))


def check_folder(folder: Path) -> None:
    """Refuse a folder in which others can place a socket: it must be the user's own, with mode 0700.

    Root may use everybody's. Raises ConfigError.
    """
    try:
        facts = folder.lstat()
    except OSError as error:
        raise _unusable(error) from None
    if not stat.S_ISDIR(facts.st_mode):
        raise ConfigError(f"admin_listen: the folder of the socket is a link or no folder; {_WAY_OUT}")
    if facts.st_uid != os.geteuid() != 0:
        raise ConfigError(f"admin_listen: the folder of the socket belongs to another user; {_WAY_OUT}")
    if mode := stat.S_IMODE(facts.st_mode) & 0o077:
        raise ConfigError(
            f"admin_listen: the folder of the socket is open to others (mode {stat.S_IMODE(facts.st_mode):04o}, "
            f"of which {mode:04o} is too much); give it mode 0700, or {_WAY_OUT}"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that of two servers that start at once the second sees the socket of the first."""
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        check_folder(folder)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(error) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _unusable(error: OSError) -> ConfigError:
    return ConfigError(f"admin_listen: the folder of the socket cannot be used: {error.strerror}; {_WAY_OUT}")


def _sweep(folder: Path) -> None:
    """Remove what servers left behind that were killed: each on a port of the system's choice has another socket."""
    for path in folder.glob("admin-*.sock"):
        if path.is_socket() and _is_dead(path):
            path.unlink()


def _is_dead(path: Path) -> bool:
    """Whether nobody listens; a server that is too busy to answer, or stopped, is alive."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        try:
            return asking.connect_ex(os.fspath(path)) == errno.ECONNREFUSED
        except OSError:  # a path that is too long for any server
            return False


def _identity(path: str | Path) -> tuple[int, int]:
    facts = os.lstat(path)
    return facts.st_dev, facts.st_ino
