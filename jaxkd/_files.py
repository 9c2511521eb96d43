"""Write a file atomically, and never through a link."""

import os
from pathlib import Path
from secrets import token_hex


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash, it is complete or as it was.

    The content goes to a new file with an unpredictable name in the same folder, which
    then takes the place of the old file. If ``path`` is a link, the link is replaced,
    and the file that it points to is not touched.

    Raises:
        OSError: If the file cannot be written. The error names the path, and no
            temporary file is left.
    """
    temporary = path.with_name(f".{token_hex(8)}.tmp")
    try:
        file = temporary.open("xb")  # never an existing file, never a link
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:  # that of a full disk has no path
        raise OSError(error.errno, error.strerror, str(path)) from error
