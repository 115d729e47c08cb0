"""The data file of a sandbox."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any


class SandboxError(Exception):
    """The sandbox cannot start. The message states the cause and the remedy."""


class DataFile:
    """A JSON file that only one sandbox can use at a time.

    Each save replaces the file, so the lock is on a second file. The operating system releases the lock when
    the process ends, even if it is killed.

    :param path: path of the file, which is created by the first save.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self._lock_path = self.path.parent / f".{self.path.name}.lock"
        self._temporary = self.path.parent / f".{self.path.name}.tmp"
        self._lock: IO[bytes] | None = None

    @property
    def is_locked(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def lock(self) -> None:
        """Lock the file, and delete what a killed sandbox left behind.

        :raises SandboxError: if another sandbox uses the file.
        :raises OSError: if the file cannot be locked.
        """
        try:
            self._lock = self._acquire()
        except BlockingIOError:
            raise SandboxError(
                f"The data file {self.path} is in use by another sandbox, so this sandbox was not started. "
                "Stop that sandbox, or use another data file."
            ) from None
        self._temporary.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock, if this object holds it."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            # Delete before closing: afterwards, the file may be another sandbox's. A forked process may still
            # hold the lock of the deleted file, which nobody else opens.
            with lock:
                self._lock_path.unlink(missing_ok=True)

    def save(self, content: Any) -> None:
        """Replace the content. A crash leaves either the old or the new content.

        :param content: a JSON value.
        :raises RuntimeError: if this object does not hold the lock.
        :raises OSError: if the file cannot be written.
        """
        if self._lock is None:
            raise RuntimeError(
                "The sandbox is stopped, and another one may use its data file, so the change was not saved. "
                "Call start() first."
            )
        try:
            with open(self._temporary, "x", encoding="utf-8", opener=_open_private) as file:
                json.dump(content, file, ensure_ascii=False)
            os.replace(self._temporary, self.path)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise

    def _acquire(self) -> IO[bytes]:
        while True:
            file = open(self._lock_path, "ab", opener=_open_private)  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another sandbox may have deleted the lock file after it was opened here.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self._lock_path)):
                    return file
            except FileNotFoundError:
                pass
            except BaseException:
                file.close()
                raise
            file.close()


def _open_private(path: str, flags: int) -> int:
    # Only the owner can read the files, which contain tokens.
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
