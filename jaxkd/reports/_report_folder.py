"""Write the folder of a comparison; overwrite and delete only its own files."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole
from jaxkd.runs import RunFolder, check_path

# Lists the files that a comparison wrote, with the checksums of their contents.
MARKER = ".jaxkd-report.json"
# A comparison's page has the name of a run's page.
COMPARISON_PAGE = RunFolder(Path()).report.name

# What a comparison of fewer networks, or without a page, does not write again.
_OPTIONAL = re.compile(rf"curves-\d+\.png|{re.escape(COMPARISON_PAGE)}")

Checksums = dict[str, list[str]]


def check_folder(out: Path) -> None:
    """Check that a folder is new or empty, or contains an earlier comparison.

    Raises:
        InvalidInputError: If it is a file, contains anything else, or cannot be made.
    """
    check_path(out)
    if _exists(out) and not out.is_dir():
        kind = "a link to nothing" if out.is_symlink() else "a file"
        raise InvalidInputError(
            f"{out} is {kind}. Choose a folder for --out.", argument="out"
        )
    if out.is_dir() and any(out.iterdir()) and _read_marker(out) is None:
        raise InvalidInputError(
            f"{out} already exists and is not a report: it has no {MARKER}, which "
            "`jaxkd report` leaves in its folders. Choose another folder for --out.",
            argument="out",
        )


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a comparison, and delete what an earlier one has more.

    Args:
        out: The folder, after :func:`check_folder`. It is created if it does not exist.
        files: Contents by file name.

    Raises:
        InvalidInputError: If a file of one of these names is not what an earlier
            comparison wrote. Nothing is written then.
    """
    out.mkdir(parents=True, exist_ok=True)
    before = _read_marker(out) or {}
    for name in files:
        if _exists(out / name) and not _is_own(out / name, before):
            raise InvalidInputError(
                f"{out / name} is not as `jaxkd report` wrote it. Move it away, or "
                "choose another folder for --out.",
                argument="out",
            )
    now = {name: [_checksum(content)] for name, content in files.items()}
    # If the next lines fail half-way, old and new contents are both recognized later.
    both = {name: before.get(name, []) + now.get(name, []) for name in before | now}
    _write_marker(out, both)
    for name, content in files.items():
        write_whole(out / name, content)
    for name in before.keys() - files.keys():
        if _OPTIONAL.fullmatch(name) and _is_own(out / name, before):
            (out / name).unlink()
    _write_marker(out, now)


def _read_marker(out: Path) -> Checksums | None:
    """Return the checksums of the files that a comparison wrote.

    The result is None if there is no marker, or if it is damaged.
    """
    path = out / MARKER
    try:
        if path.is_symlink() or not path.is_file():
            return None
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): [str(x) for x in sums] for name, sums in files.items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _write_marker(out: Path, files: Checksums) -> None:
    content = json.dumps({"made_by": "jaxkd report", "files": files}, indent=2)
    write_whole(out / MARKER, f"{content}\n".encode())


def _is_own(path: Path, files: Checksums) -> bool:
    """Return whether a file is a regular file with the contents of a comparison."""
    if path.is_symlink() or not path.is_file():
        return False
    return _checksum(path.read_bytes()) in files.get(path.name, ())


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
