"""The store that keeps finished trials across interruptions: what comes out of it is what was put into it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from morphobench.project.files import file_digests, write_json

__all__ = ["TRIAL_FILES", "Store", "remove_outputs"]

# record.json comes last: where it exists, the others do.
TRIAL_FILES = ("predictions.npz", "curve.csv", "weights.safetensors", "learned.npz", "log.txt", "record.json")
CHECKSUMS = "checksums.json"  # beside them in the store


@dataclass(frozen=True)
class Store:
    """Finished trials by key: Snakemake removes the outputs of an interrupted job, and here they come back from.

    An entry shares its files with the folder of the trial (hard links: no second copy on disk), so that whatever writes into a file
    there writes into the store. Checksums taken when the trial ended tell.
    """

    folder: Path

    def put(self, key: str, trial_folder: Path) -> None:
        """Keep the files of a finished trial and their checksums."""
        target = self.folder / key
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.folder))
        try:
            _link_files(trial_folder, temporary)
            write_json(temporary / CHECKSUMS, file_digests(_files_in(temporary), temporary))
            temporary.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def restore(self, key: str, trial_folder: Path) -> bool:
        """Bring a finished trial back; False if it is not in the store, or is no longer what was put there.

        An entry that is damaged is removed, and one line says so.
        """
        source = self.folder / key
        if not source.exists():
            return False
        flaw = _flaw_of(source, key)
        if flaw:
            print(f"{source}: removed from the store: {flaw}; the trial runs again", flush=True)
            shutil.rmtree(source)
            return False
        trial_folder.mkdir(parents=True, exist_ok=True)
        _link_files(source, trial_folder)
        return True


def remove_outputs(trial_folder: Path) -> None:
    """Remove what a trial left, its record first: where that exists, the others do."""
    for name in reversed(TRIAL_FILES):
        (trial_folder / name).unlink(missing_ok=True)


def _files_in(folder: Path) -> list[Path]:
    return [folder / name for name in TRIAL_FILES if (folder / name).exists()]


def _flaw_of(entry: Path, key: str) -> str:
    """Say in what an entry differs from what was put there; "" if in nothing."""
    try:
        expected = json.loads((entry / CHECKSUMS).read_text(encoding="utf-8"))
        found = file_digests(_files_in(entry), entry)
        differing = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        if differing:
            return f"{', '.join(differing)}: not what the trial wrote"
        if json.loads((entry / "record.json").read_text(encoding="utf-8"))["key"] != key:
            return "record.json: of another trial"
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        return f"not readable ({type(error).__name__}: {error})"
    return ""


def _link_files(source: Path, target: Path) -> None:
    remove_outputs(target)
    for path in _files_in(source):
        try:
            os.link(path, target / path.name)
        except OSError:  # another file system, or one without hard links
            shutil.copy2(path, target / path.name)
