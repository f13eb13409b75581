"""Source files of data sets: taken from the folders of MORPHOBENCH_DATA or downloaded, and verified either way."""

from __future__ import annotations

import hashlib
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.contract import DataUnavailable
from morphobench.project.files import atomic
from morphobench.project.paths import data_folders
from morphobench.settings.dataset import SourceFile
from morphobench.settings.reading import check

__all__ = ["CorruptFile", "obtain", "verify"]

CHUNK_BYTES = 1 << 20
# The checksums are those of files as they lie on the server, which some would compress on the way.
HEADERS = {"User-Agent": "morphobench (benchmark of morphological operators)", "Accept-Encoding": "identity"}
RETRIED_ANSWERS = {408, 425, 429, 500, 502, 503, 504}


class CorruptFile(DataUnavailable, ValueError):
    """A data file that is there but is not what it should be: wrong size, wrong checksum, cut short, unreadable."""


class _ConnectionLost(Exception):
    """The transfer failed in a way that another attempt may cure."""


class _CutShort(_ConnectionLost):
    """The server closed the connection before the length it had announced."""


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
    UserError
        If the entry is not one of a source file.
    CorruptFile
        If the file found or downloaded has the wrong size or checksum, or every transfer was cut short.
    DataUnavailable
        If no folder has it and it cannot be downloaded.
    """
    file = file if isinstance(file, SourceFile) else check(SourceFile, file, f"{dataset}: files")
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
        if found != expected:
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
    """Stream the answer to ``path``; sort failures into what may pass (`_ConnectionLost`) and what will not."""
    import pooch  # with what it imports it would take a quarter of the time that the command line starts in
    import requests
    from urllib3.exceptions import IncompleteRead, MaxRetryError

    download = pooch.HTTPDownloader(chunk_size=CHUNK_BYTES, timeout=timeout_s, headers=HEADERS)
    try:
        download(url, path, None)
    except requests.HTTPError as error:
        response = error.response
        assert response is not None, "it is the answer that is an error"
        response.close()
        answer = f"the server answered {response.status_code} {response.reason}"
        if response.status_code in RETRIED_ANSWERS:
            raise _ConnectionLost(answer) from error
        raise DataUnavailable(f"{url}: {answer}") from error
    except requests.RequestException as error:  # a full disk is none of these
        cause = _cause(error)
        # Without a network this fails for every file; trying again would cost the resolver's timeout each time.
        if isinstance(cause, socket.gaierror):
            raise DataUnavailable(f"{url}: no network or unknown host: {cause}") from error
        if isinstance(cause, IncompleteRead):
            received = int(cause.partial)  # of what was announced, this and what is still expected
            announced = received + int(cause.expected)
            raise _CutShort(f"cut short: found {received} bytes, expected {announced} bytes") from error
        begun = not isinstance(next(iter(error.args), None), MaxRetryError)
        raise _ConnectionLost(
            f"{'connection lost' if begun else 'no connection'}: {str(cause) or type(cause).__name__}"
        ) from error


def _cause(error: BaseException) -> BaseException:
    """Return the error at the bottom of those that wrap each other."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error
