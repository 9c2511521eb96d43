"""The size of a recording on disk."""

from collections.abc import Mapping

from jaxkd._text import count
from jaxkd.recordings import _manifest
from jaxkd.recordings._manifest import Manifest
from jaxkd.recordings._settings import check_settings
from jaxkd.recordings._views import Views


def size(
    views: Views,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    dtype: str = "float32",
    top_k: int | None = None,
) -> int:
    """Compute the size of a recording's arrays in bytes, without recording anything.

    Args:
        views: The images that the teacher will see.
        shapes: The shape of a row of each output: ``{"logits": (100,)}``.
        dtype: ``"float32"`` or ``"float16"``.
        top_k: Number of logits that are stored, or None for all.

    Raises:
        InvalidInputError: If the outputs cannot be stored so.

    Example:
        >>> from jaxkd import data, recordings
        >>> dataset = data.load("digits")
        >>> views = recordings.Views.of(dataset, epochs=2, batch_size=64, data_seed=0)
        >>> recordings.size(views, {"logits": (10,)}) > 2 * views.rows * 10 * 4
        True
    """
    manifest = _planned(views, shapes, dtype, top_k)
    rows = views.rows_per_epoch
    epoch = sum(_manifest.file_size(part, rows) for part in manifest.parts())
    return epoch * manifest.wanted_epochs


def describe_size(
    views: Views,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    dtype: str = "float32",
    top_k: int | None = None,
) -> str:
    """Describe the size of a recording: ``2.4 GB for 240 epochs x 50,000 x 100 ...``.

    The arguments are those of :func:`size`.
    """
    total = size(views, shapes, dtype=dtype, top_k=top_k)
    parts = {
        name: " x ".join(f"{n:,}" for n in shape) for name, shape in shapes.items()
    }
    if list(parts) == ["logits"]:
        what = f"{views.rows:,} x {parts['logits']}"
    else:
        listed = ", ".join(f"{name} {shape}" for name, shape in parts.items())
        what = f"{views.rows:,} rows ({listed})"
    epochs = "clean images" if views.clean else count(views.epochs, "epoch")
    kept = "" if top_k is None else f", of the logits the largest {top_k}"
    return f"{in_words(total)} for {epochs} x {what} in {dtype}{kept}"


def in_words(size: float | int) -> str:
    """Return a number of bytes in the largest unit that gives at least 1."""
    if size < 1000:
        return count(int(size), "byte")
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def _planned(
    views: Views, shapes: Mapping[str, tuple[int, ...]], dtype: str, top_k: int | None
) -> Manifest:
    manifest = Manifest(
        views=views,
        class_names=("0",),
        teacher={},
        load_options={},
        dtype=dtype,
        top_k=top_k,
        outputs={name: tuple(shape) for name, shape in shapes.items()},
        ordered=not views.clean,
    )
    check_settings(manifest)
    return manifest
