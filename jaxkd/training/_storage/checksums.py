"""Checksums of a folder's files, to detect damage later."""

import json
from pathlib import Path

from jaxkd._files import crc32

FILE = "checksums.json"


def write(folder: Path) -> None:
    """Write the checksums of all files of a folder into the folder."""
    (folder / FILE).write_text(json.dumps(_of(folder)))


def damage(folder: Path) -> str | None:
    """Describe the damage of a folder's files, or return None if they are intact."""
    try:
        written = json.loads((folder / FILE).read_text())
        found = _of(folder)
    except FileNotFoundError as error:
        return f"{_relative(error.filename, folder)} is missing"
    except (OSError, ValueError):
        return f"{FILE} or a file that it lists cannot be read"
    if not isinstance(written, dict) or not written:
        return f"{FILE} lists no files"
    wrong = [name for name, checksum in written.items() if found.get(name) != checksum]
    if not wrong:
        return None
    name = wrong[0]
    what = "is missing" if name not in found else "is not what was written"
    if name in found and not (folder / name).stat().st_size:
        what = "is empty"
    more = f", and {len(wrong) - 1} more files" if len(wrong) > 1 else ""
    return f"{name} {what}{more}"


def _of(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): crc32(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != FILE
    }


def _relative(path: str, folder: Path) -> str:
    return Path(path).name if not path else Path(path).relative_to(folder).as_posix()
