"""Checks the state folder: its permissions, its file system, its room, and its speed.

The checks are of the embedded engine: they look at files and disks.
"""

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Final

from relay.cli.commands.doctor.report import Finding, Installation, Level, find_existing, format_size
from relay.config import read_all_traits
from relay.engine import open_store
from relay.inspect import check_databases
from relay.state import find_bar, measure_journals
from relay.status import advise_on_doubt, describe_doubt

MISSING_END_ADVICE: Final = (
    "put a newer copy of the journal there, if there is one; else start relay, which goes on behind these offsets"
)
IN_MEMORY: Final = ("tmpfs", "ramfs")
REMOTE: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs")
"""File systems without reliable locks and shared memory for SQLite (sqlite.org/wal.html: no network file systems)."""
FEW_INODES: Final = 1000
WRITES: Final = 100
WRITE_BYTES: Final = 4096
WRITING_S: Final = 5.0
SLOW_S: Final = 0.05


def check_folder(it: Installation) -> Iterator[Finding]:
    """Check that relay can use the state folder, and nobody else."""
    if not it.state.exists():
        yield Finding("ok", "state folder", f"{it.state} does not exist yet; relay makes it")
        return
    if not os.access(it.state, os.R_OK | os.W_OK | os.X_OK):
        advice = "run relay doctor as the user that relay runs as, or as root"
        yield Finding("problem", "state folder", f"{it.state} cannot be written by this user", advice)
        return
    if it.config.journal.backend == "embedded" and (why := find_bar(it.state)):
        said, _, advice = why.partition(": ")
        yield Finding("problem", "state folder", f"{it.state}: {said}, and relay does not start with it", advice)
    mode = stat.S_IMODE(it.state.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        said = f"{it.state} has the mode {mode:o}: others may get at events, which are personal data"
        yield Finding("warning", "state folder", said, f"chmod 700 {it.state}")
    else:
        yield Finding("ok", "state folder", str(it.state))


def check_database(it: Installation) -> Iterator[Finding]:
    """Check that the databases can be used, and know their journals."""
    for found in check_databases(it.state, it.config.journal.path):
        about = f"relay.db{f' of {found.worker}' if found.worker else ''}"
        if found.problem:
            yield Finding("problem", about, f"{found.path}: {found.problem}", found.advice)
        for one in found.doubts:
            yield Finding("problem", one.what, describe_doubt(one, found.damaged), advise_on_doubt(one))
        if found.missing:
            yield Finding("problem", "journal", found.missing, MISSING_END_ADVICE)
        if found.is_there and not found.doubts and not found.missing:
            yield Finding("ok", about, f"{found.path} knows its journal")


def check_kind(it: Installation) -> Finding:
    """Check that the file system keeps what is written to it."""
    return judge_kind(find_file_system(find_existing(it.journal).resolve(), Path("/proc/self/mountinfo").read_text()))


def judge_kind(name: str) -> Finding:
    """Judge a type of file system for the journal."""
    result: tuple[Level, str, str] = ("ok", "", "")
    if name in IN_MEMORY:
        result = ("problem", ": it is in memory and gone after a restart of the machine", "put the state on a disk")
    elif name in REMOTE:
        result = ("problem", ": locks and SQLite do not work over a network", "put the state on a local disk")
    elif name.startswith("fuse") or name in ("ceph", "glusterfs", "lustre"):
        result = ("warning", ": not known to keep what was synced", "a local ext4 or XFS is known to")
    elif name == "overlay":
        result = ("warning", ": a container's own layer, which goes with the container", "put the state on a volume")
    level, said, advice = result
    return Finding(level, "file system", f"{name}{said}", advice)


def find_file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system of an absolute path, by the text of /proc/self/mountinfo."""
    found = (Path("/"), "unknown")
    for line in mountinfo.splitlines():
        mount, _, about = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split()[4]))
        if path.is_relative_to(point) and len(point.parts) >= len(found[0].parts):  # the later of two covers the other
            found = (point, about.split()[0])
    return found[1]


def check_room(it: Installation) -> Finding:
    """Check that the journal can grow to its limit."""
    limits = it.config.journal
    about = os.statvfs(find_existing(it.journal))
    free = about.f_bavail * about.f_frsize
    workers = it.config.runtime.workers
    used = measure_journals(it.state, limits.path, workers)
    most = limits.max_size * workers
    left = free + used - limits.min_free
    said = f"{format_size(free)} free, the journal has {format_size(used)} and may have {format_size(most)}"
    advice = "free some space, use a larger disk, or lower journal.max_size"
    if free <= limits.min_free:
        said = f"{said}, and journal.min_free is {format_size(limits.min_free)}: it is full"
        return Finding("problem", "room", f"{said}{_find_largest(it)}", "free some space, or use a larger disk")
    if left < most:
        return Finding(
            "warning",
            "room",
            f"{said}: the disk will be full when the journal has {format_size(left)}{_find_largest(it)}",
            advice,
        )
    return Finding("ok", "room", said)


def _find_largest(it: Installation) -> str:
    """Describe what takes the room."""
    config = it.config
    traits = read_all_traits(config.connectors)
    files = [known.local_path for known in traits.values() if known.local_path is not None]
    found = open_store(it.state, config.journal).describe_usage(config.runtime.workers, files)
    return f"; the disk holds {found}" if found else ""


def check_inodes(it: Installation) -> Finding:
    """Check that the file system can hold further files."""
    about = os.statvfs(find_existing(it.journal))
    if about.f_files == 0 or about.f_favail >= FEW_INODES:  # 0: it makes them as they are needed
        return Finding("ok", "inodes", f"{about.f_favail:,} free" if about.f_files else "as many as there is room for")
    full = "" if about.f_favail else ": no new file can be made, and senders get 503"
    level: Level = "warning" if about.f_favail else "problem"
    return Finding(
        level, "inodes", f"{about.f_favail:,} of {about.f_files:,} free{full}", "remove files of others: df -i"
    )


def check_sync(it: Installation) -> Iterator[Finding]:
    """Measure how long a write takes to be on disk. Every acknowledgement waits for that."""
    if not os.access(it.state, os.W_OK | os.X_OK):
        return
    try:
        times = measure_latencies(it.state)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return  # the check of the room says so
    centiles = quantiles(times, n=100, method="inclusive")
    middle, high = centiles[49], centiles[98]
    said = f"{len(times)} small writes: p50 {middle * 1000:.1f} ms, p99 {high * 1000:.1f} ms"
    advice = "every answer to a sender waits for this: another disk, or one that nobody else writes to"
    slow = high > SLOW_S
    yield Finding("warning" if slow else "ok", "fdatasync", said, advice if slow else "")


def measure_latencies(folder: Path) -> list[float]:
    """Return the seconds of some synced writes, two at least. Raises OSError."""
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, WRITES * WRITE_BYTES)
        os.fsync(file.fileno())
        start = time.monotonic()
        while len(times) < 2 or (len(times) < WRITES and time.monotonic() - start < WRITING_S):
            begin = time.perf_counter()
            file.write(b"\0" * WRITE_BYTES)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return times
