"""Lets a plain `snakemake --cores N` go on with what an earlier run left: the lock of one that was killed, dates ahead of the clock.

Snakemake cannot know whether a lock's owner still lives, and asks the user for --unlock. A run of this workflow writes
down its process; a later one on the same machine removes the lock only if that process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from morphobench.project.files import write_json

__all__ = ["claim_folder", "undo_future_dates"]

OWNER = "morphobench-run.json"


def claim_folder(folder: Path) -> bool:
    """Write down this process as the one that runs in ``folder`` (``.snakemake``), removing the lock of a dead one.

    Returns whether a lock was removed. While the process written down lives, or if it belongs to another machine,
    nothing is touched.
    """
    owner = _read(folder / OWNER)
    if owner is not None and (owner["host"] != socket.gethostname() or _lives(owner)):
        return False
    removed = False
    if owner is not None:
        for lock in (folder / "locks").glob("*.lock"):
            lock.unlink(missing_ok=True)
            removed = True
    write_json(folder / OWNER, {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())})
    return removed


def undo_future_dates(*folders: Path) -> int:
    """Date files that are dated ahead of the clock now, and return how many.

    Snakemake calls a job failed whose outputs are older than its inputs, and takes what is dated ahead for up to date.
    """
    now, changed = time.time(), 0
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                with contextlib.suppress(FileNotFoundError):  # another run of this folder may be at work
                    if os.lstat(path).st_mtime > now:
                        os.utime(path, (now, now), follow_symlinks=False)
                        changed += 1
    return changed


def _read(path: Path) -> dict[str, object] | None:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return owner if {"host", "pid", "started"} <= owner.keys() else None


def _lives(owner: dict[str, object]) -> bool:
    """Whether the process is still there, and not another one with its number."""
    return _started(int(str(owner["pid"]))) == owner["started"]


def _started(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
