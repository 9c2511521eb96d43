"""Check the settings of a recording, and that a continued one keeps them."""

import dataclasses
import json
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxkd import _checks, _json
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd._text import count, printable, shortened
from jaxkd.recordings._codec import DTYPES
from jaxkd.recordings._manifest import OUTPUT, Manifest
from jaxkd.recordings._views import describe

_NAMES = (
    "logits, embedding, stages.0, stages.1, ..., preactivations.0, ..., and layers by "
    "their paths, such as path=blocks.2"
)


def check_settings(manifest: Manifest) -> None:
    """Check what a caller has chosen.

    Raises:
        InvalidInputError: If a setting is out of range, or outputs and settings do not
            fit each other.
        InvalidTypeError: If a setting has the wrong type.
    """
    if manifest.dtype not in DTYPES:
        raise InvalidInputError(
            f"dtype must be one of {', '.join(DTYPES)}, got {manifest.dtype}",
            argument="dtype",
        )
    if not manifest.class_names or not all(
        isinstance(name, str) for name in manifest.class_names
    ):
        raise InvalidInputError(
            "class_names must hold one name per class, such as dataset.class_names, "
            f"got {shortened(str(manifest.class_names))}",
            argument="class_names",
        )
    for name in (*manifest.outputs, *manifest.available):
        if not isinstance(name, str) or not OUTPUT.fullmatch(name):
            raise InvalidInputError(
                f"outputs has {name!r}, but the outputs of a teacher are {_NAMES}",
                argument="outputs",
            )
    check_top_k(manifest)
    for name in ("teacher", "load_options"):
        try:
            _json.dumps(getattr(manifest, name))
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(
                f"{name} must consist of text, numbers, lists and dicts ({error})",
                argument=name,
            ) from None


def check_top_k(manifest: Manifest) -> None:
    """Check that fewer logits are stored than there are.

    Raises:
        InvalidInputError: If not.
    """
    top_k, outputs = manifest.top_k, manifest.outputs
    if top_k is None:
        return
    _checks.check_at_least(1, top_k=top_k)
    if outputs and "logits" not in outputs:
        raise InvalidInputError(
            f"top_k is {top_k}, but the outputs are {', '.join(outputs)}: there are no "
            "logits to choose from. Leave top_k out.",
            argument="top_k",
        )
    if outputs and top_k >= outputs["logits"][0]:
        raise InvalidInputError(
            f"top_k is {top_k}, but the teacher has {outputs['logits'][0]} logits. "
            "Leave top_k out to record all of them, or choose fewer.",
            argument="top_k",
        )


def continued(found: Manifest, wanted: Manifest, path: Any) -> Manifest:
    """Return the manifest with which a recording is continued.

    The number of augmented epochs may grow. All other settings must be equal.

    Raises:
        InvalidInputError: Naming the first setting that differs, and both values.
    """

    def differ(name: str, one: Any, other: Any, argument: str | None = None):
        raise InvalidInputError(
            f"{name} is {other}, but the recording {printable(str(path))} was begun "
            f"with {one}. Use the same value, or choose another --out.",
            argument=argument or name,
        )

    old, new = found.views, wanted.views
    for name in ("dataset", "fingerprint", "rows", "image_shape"):
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            differ(name, one, other, "dataset")
    if old.clean != new.clean:
        kinds = ["0 (clean images)" if x.clean else str(x.epochs) for x in (old, new)]
        differ("epochs", *kinds)
    if not old.clean:
        if old.augmentation != new.augmentation:
            both = (describe(x.augmentation) for x in (old, new))
            differ("augmentation", *both)
        for name in ("data_seed", "batch_size"):
            if getattr(old, name) != getattr(new, name):
                differ(name, getattr(old, name), getattr(new, name))
    for name in ("dtype", "top_k", "class_names", "teacher", "load_options"):
        one, other = (_shown(getattr(x, name)) for x in (found, wanted))
        if one != other:
            differ(name, *map(_short_difference, (one, other), (other, one)))
    done = len(found.epochs)
    if not old.clean and new.epochs < done:
        raise InvalidInputError(
            f"epochs is {new.epochs}, but the recording {printable(str(path))} already "
            f"has {count(done, 'complete epoch')}. Ask for at least as many.",
            argument="epochs",
        )
    views = old._replace(epochs=new.epochs)
    return dataclasses.replace(found, views=views)


def _shown(value: Any) -> str:
    """Show a value as the manifest does."""
    return json.dumps(_json.strict(value), sort_keys=True)


def _short_difference(text: str, other: str) -> str:
    """Shorten a text to the surroundings of its first difference from another."""
    if len(text) <= 60:
        return text
    pairs = zip(text, other, strict=False)
    first = next((i for i, (x, y) in enumerate(pairs) if x != y), 0)
    start = max(0, first - 20)
    return ("..." if start else "") + shortened(text[start:])


def check_values(name: str, output: Any, first: int) -> np.ndarray:
    """Convert some rows of an output to float32, and check their values.

    Logits may be minus infinity, which excludes a class. At least one logit of a row
    must be finite.

    Args:
        name: Name of the output.
        output: The rows.
        first: Number of the first row, for messages.

    Raises:
        InvalidInputError: If a value is not finite.
        InvalidTypeError: If the output is not an array of floats.
    """
    try:
        given = np.asarray(output)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidTypeError(
            f"{name} cannot be converted to a NumPy array ({error})", argument=name
        ) from None
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise InvalidTypeError(
            f"{name} must be an array of floats, got {given.dtype}", argument=name
        )
    with np.errstate(over="ignore"):
        array = given.astype(np.float32)
    if array.ndim < 2:
        raise InvalidInputError(
            f"{name} must have an axis of rows and at least one other, got the shape "
            f"{array.shape}",
            argument=name,
        )
    bad = ~np.isfinite(array)
    if not bad.any():
        return array
    axes = tuple(range(1, array.ndim))
    if name == "logits":
        excluded = np.isneginf(array)
        hopeless = excluded.all(axes)
        if hopeless.any():
            row = first + int(hopeless.argmax())
            raise InvalidInputError(
                f"{name} of row {row} are all -inf, but at least one class must be "
                "possible. Check the teacher.",
                argument=name,
            )
        bad &= ~excluded
    if bad.any():
        row = first + int(bad.any(axes).argmax())
        value = given[bad][0]
        raise InvalidInputError(
            f"{name} of row {row} contain {value}, but a teacher's outputs must be "
            "finite numbers of float32. Check the teacher.",
            argument=name,
        )
    return array
