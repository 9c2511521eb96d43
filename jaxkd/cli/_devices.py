"""Devices and processes of a run."""

import math

import jax
import numpy as np
from jax.sharding import Mesh

from jaxkd._checks import check_at_least
from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.cli._options import DeviceOptions

FIRST_PROCESS_FAILED = InvalidInputError(
    "the first process stopped the run; see its error message"
)
"""Raised by the other processes if the first one cannot open the run folder."""

ANOTHER_PROCESS_FAILED = InvalidInputError(
    "another process cannot read its data; see its error message"
)
"""Raised by a process that can read its data if another one cannot."""

Axes = dict[str, int]


def check(options: DeviceOptions) -> Axes | None:
    """Check the options, without any devices.

    Returns:
        The size of each axis of ``--mesh``; ``None`` if it is not given.

    Raises:
        InvalidInputError: If the mesh is malformed, or only a part of the options for
            several processes is given.
    """
    explicit = {
        "--coordinator": options.coordinator,
        "--num-processes": options.num_processes,
        "--process-id": options.process_id,
    }
    given = [flag for flag, value in explicit.items() if value is not None]
    missing = [flag for flag in explicit if flag not in given]
    if given and not options.distributed:
        raise InvalidInputError(
            f"{given[0]} needs --distributed", argument=given[0][2:].replace("-", "_")
        )
    if given and missing:
        raise InvalidInputError(
            f"--distributed needs {' and '.join(missing)} together with {given[0]}. On "
            "a cluster that JAX detects, leave all three out",
            argument="distributed",
        )
    count, index = options.num_processes, options.process_id
    if count is not None:
        check_at_least(1, num_processes=count)
    if count is not None and index is not None and not 0 <= index < count:
        raise InvalidInputError(
            f"--process-id is {index}, but --num-processes is {count}: an index must "
            f"be at least 0 and less than {count}",
            argument="process_id",
        )
    return None if options.mesh is None else _parse(options.mesh)


def join(options: DeviceOptions) -> None:
    """Connect to the other processes; call it before anything else uses a device.

    Raises:
        InvalidInputError: If JAX cannot find or reach the other processes.
    """
    if not options.distributed:
        return
    try:
        jax.distributed.initialize(
            options.coordinator, options.num_processes, options.process_id
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"--distributed: cannot connect to the other processes ({reason}). Outside "
            "of a cluster, give --coordinator, --num-processes and --process-id",
            argument="distributed",
        ) from error


def make_mesh(axes: Axes | None, batch_size: int) -> Mesh | None:
    """Build the mesh of a run.

    Args:
        axes: The size of each axis. By default, the examples lie over all devices if
            their number divides the batch size.
        batch_size: Number of examples per step.

    Returns:
        The mesh; ``None`` for a single device.

    Raises:
        InvalidInputError: If there are fewer devices, or some process would have none.
    """
    devices = jax.devices()
    if axes is None:
        axes = _all_devices(len(devices), batch_size)
        if axes is None:
            return None
    mesh = ",".join(f"{name}={size}" for name, size in axes.items())
    count = math.prod(axes.values())
    if count > len(devices):
        raise InvalidInputError(
            f"--mesh {mesh} needs {count} devices, but only {len(devices)} can be used",
            argument="mesh",
        )
    if jax.process_count() > 1 and count < len(devices):
        raise InvalidInputError(
            f"--mesh {mesh} uses {count} of {len(devices)} devices, but a run of "
            f"{jax.process_count()} processes must use all",
            argument="mesh",
        )
    return Mesh(np.array(devices[:count]).reshape(tuple(axes.values())), tuple(axes))


def _all_devices(count: int, batch_size: int) -> Axes | None:
    """Return the axes of a mesh of all devices, or ``None`` if one is used."""
    if count == 1:
        return None
    if batch_size % count and jax.process_count() == 1:
        say(
            f"warning: --batch-size {batch_size} cannot be divided by {count} devices, "
            "so only one device is used. Choose fewer devices with --mesh"
        )
        return None
    return {"data": count}


def _parse(text: str) -> Axes:
    axes: Axes = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        known = name in ("data", "trial") and name not in axes
        if not (known and size.isascii() and size.isdigit() and int(size)):
            raise InvalidInputError(
                f"--mesh must be like data=4 or data=4,trial=2, got {text!r}",
                argument="mesh",
            )
        axes[name] = int(size)
    return axes
