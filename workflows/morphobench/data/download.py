"""Source files of data sets: taken from the folders of MORPHOBENCH_DATA or downloaded, and verified either way."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from morphobench.contract import DataUnavailable
from morphobench.project.files import atomic
from morphobench.project.paths import data_folders

__all__ = ["CorruptFile", "SourceFile", "obtain", "verify"]

CHUNK_BYTES = 1 << 20
USER_AGENT = "morphobench (benchmark of morphological operators)"
RETRIED_ANSWERS = {408, 425, 429, 500, 502, 503, 504}


class CorruptFile(DataUnavailable, ValueError):
    """A data file that is there but is not what it should be: wrong size, wrong checksum, cut short, unreadable."""


class _ConnectionLost(Exception):
    """The transfer failed in a way that another attempt may cure."""


class _CutShort(_ConnectionLost):
    """The server closed the connection before the length it had announced."""


@dataclass(frozen=True)
class SourceFile:
    """One entry of ``files`` in ``dataset.yaml``.

    Parameters
    ----------
    name : str
        File name, without a folder.
    url : str
        Where it is downloaded from (http or https).
    size : int, optional
        Size in bytes.
    md5, sha256 : str, optional
        Checksums, hexadecimal; at least one is needed.
    variant : str, optional
        The variant that needs this file.

    Raises
    ------
    ValueError
        For a name that holds a folder, another URL scheme, or no checksum.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or set(self.name) & set("/\\"):
            raise ValueError(f"file name: found {self.name!r}, expected a plain name without a folder")
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"{self.name}: key 'url': found {self.url!r}, expected http:// or https://")
        if not (self.md5 or self.sha256):
            raise ValueError(f"{self.name}: found no checksum, expected key 'md5' or 'sha256'")

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any]) -> SourceFile:
        """Make one from an entry of ``dataset.yaml``; unknown keys are refused."""
        unknown = set(entry) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"{entry.get('name', 'file')}: unknown key {', '.join(map(repr, sorted(unknown)))}")
        return cls(**entry)


def obtain(
    file: SourceFile | Mapping[str, Any],
    dataset: str,
    target: Path,
    *,
    attempts: int = 3,
    timeout_s: float = 30.0,
    backoff_s: float = 1.0,
) -> Path:
    """Bring one source file to ``target``, verified; a file that is there and intact is left alone.

    ``<folder>/<dataset>/<name>`` is looked for in every folder of MORPHOBENCH_DATA and copied; only where none has it
    is it downloaded. Nothing ever lies under the name ``target`` but a whole, verified file, and several processes may
    ask for the same file at once.

    Parameters
    ----------
    file : SourceFile or mapping
        What is wanted; a mapping is an entry of ``files`` in ``dataset.yaml``.
    dataset : str
        Name of the data set, without variant: the folder that is looked for.
    target : Path
        Path of the file to make.
    attempts : int
        Number of downloads tried before giving up.
    timeout_s : float
        Seconds without an answer after which one attempt is given up.
    backoff_s : float
        Seconds before the second attempt; each later one waits twice as long.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    CorruptFile
        If the file found or downloaded has the wrong size or checksum, or every transfer was cut short.
    DataUnavailable
        If no folder has it and it cannot be downloaded.
    """
    file = file if isinstance(file, SourceFile) else SourceFile.from_mapping(file)
    target = Path(target)
    if _intact(file, target):
        return target
    given = next((path for path in _places(file, dataset) if path.is_file()), None)
    if given is not None:
        with atomic(target) as temporary:
            shutil.copyfile(given, temporary)
            verify(file, temporary, shown=given)
        return target
    try:
        _download(file, target, attempts, timeout_s, backoff_s)
    except CorruptFile as error:
        raise CorruptFile(f"{error}. {_advice(file, dataset)}") from error
    except DataUnavailable as error:
        raise DataUnavailable(f"{error}. {_advice(file, dataset)}") from error
    return target


def verify(file: SourceFile, path: Path, shown: Path | str | None = None) -> None:
    """Check the size and the checksums of the file at ``path``; messages call it ``shown``.

    Raises
    ------
    CorruptFile
        With what was found and what was expected.
    """
    shown = path if shown is None else shown
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise CorruptFile(f"{shown}: wrong size: found {size} bytes, expected {file.size} bytes for {file.name}")
    for algorithm, expected in (("md5", file.md5), ("sha256", file.sha256)):
        if expected is None:
            continue
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if found != expected.lower():
            raise CorruptFile(
                f"{shown}: wrong checksum: found {algorithm} {found} ({size} bytes), "
                f"expected {expected} for {file.name}"
            )


def _intact(file: SourceFile, path: Path) -> bool:
    try:
        verify(file, path)
    except (CorruptFile, FileNotFoundError):
        return False
    return True


def _places(file: SourceFile, dataset: str) -> list[Path]:
    return [folder / dataset / file.name for folder in data_folders()]


def _advice(file: SourceFile, dataset: str) -> str:
    folders = [str(path.parent) for path in _places(file, dataset)]
    searched = f"Folders searched before: {', '.join(folders)}" if folders else "MORPHOBENCH_DATA names no folder"
    return f"{searched}. To go on, put {file.name} in <folder>/{dataset}/ and name <folder> in MORPHOBENCH_DATA"


def _download(file: SourceFile, target: Path, attempts: int, timeout_s: float, backoff_s: float) -> None:
    last: _ConnectionLost | None = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(backoff_s * 2 ** (attempt - 1))
        try:
            with atomic(target) as temporary:
                _transfer(file.url, temporary, timeout_s)
                verify(file, temporary, shown=file.url)
            return
        except _ConnectionLost as error:
            last = error
    kind = CorruptFile if isinstance(last, _CutShort) else DataUnavailable
    raise kind(f"{file.name} could not be downloaded from {file.url} in {attempts} attempts: {last}")


def _transfer(url: str, path: Path, timeout_s: float) -> None:
    """Stream the answer to ``path``."""
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
    with _network_errors(url):
        response = urllib.request.urlopen(request, timeout=timeout_s)
    received = 0
    with response, path.open("wb") as stream:
        while True:
            with _network_errors(url):
                chunk = response.read(CHUNK_BYTES)
            if not chunk:
                break
            stream.write(chunk)  # outside the guard: a full disk is no network error
            received += len(chunk)
        announced = response.headers.get("Content-Length")
    # http.client ends a bounded read silently when the connection closes early.
    if announced is not None and received != int(announced):
        raise _CutShort(f"cut short: found {received} bytes, expected {announced} bytes")


@contextlib.contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Sort what urllib raises into what may pass (`_ConnectionLost`) and what will not (`DataUnavailable`)."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answered {error.code} {error.reason}"
        if error.code in RETRIED_ANSWERS:
            raise _ConnectionLost(answer) from error
        raise DataUnavailable(f"{url}: {answer}") from error
    except urllib.error.URLError as error:
        # Without a network this fails for every file; trying again would cost the resolver's timeout each time.
        if isinstance(error.reason, socket.gaierror):
            raise DataUnavailable(f"{url}: no network or unknown host: {error.reason}") from error
        raise _ConnectionLost(f"no connection: {error.reason}") from error
    except (http.client.HTTPException, OSError) as error:
        raise _ConnectionLost(f"connection lost: {error or type(error).__name__}") from error
