"""Which devices a run takes, and joining the other processes."""

import math

import jax
import numpy as np
from jax.sharding import Mesh

from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.cli._options import DeviceOptions


def join(options: DeviceOptions) -> None:
    """Connects with the other processes; before anything else that needs a device.

    Raises:
        ValueError: If it is not known who they are, or they cannot be reached.
    """
    explicit = {
        "--coordinator": options.coordinator,
        "--num-processes": options.num_processes,
        "--process-id": options.process_id,
    }
    given = [name for name, value in explicit.items() if value is not None]
    if not options.distributed:
        if given:
            raise InvalidInputError(f"{given[0]} needs --distributed")
        return
    if given and len(given) < len(explicit):
        missing = [name for name in explicit if name not in given]
        raise InvalidInputError(
            f"--distributed: {' and '.join(missing)} must be given with {given[0]}, or "
            "none of the three, where the cluster says"
        )
    count, number = options.num_processes, options.process_id
    if count is not None and number is not None and not 0 <= number < count:
        raise InvalidInputError(
            f"--process-id must be in [0, {count}), the numbers of --num-processes "
            f"{count}, got {number}"
        )
    try:
        jax.distributed.initialize(options.coordinator, count, number)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"--distributed: cannot join the other processes ({reason}); outside of a "
            "cluster, give --coordinator, --num-processes and --process-id"
        ) from error


def make_mesh(options: DeviceOptions, batch_size: int) -> Mesh | None:
    """The mesh that was asked for; or all devices over the examples, if that is even.

    Raises:
        ValueError: If it is malformed, there are not so many devices, or some process
            would have none to itself.
    """
    devices = jax.devices()
    if options.mesh is not None:
        axes = _parse(options.mesh)
        count = math.prod(axes.values())
        if count > len(devices):
            raise InvalidInputError(
                f"--mesh {options.mesh} takes {count} devices, there are {len(devices)}"
            )
    elif len(devices) == 1:
        return None
    else:
        axes, count = {"data": len(devices)}, len(devices)
        if batch_size % count and jax.process_count() == 1:
            say(
                f"warning: --batch-size {batch_size} does not divide by {count} "
                "devices; one is used. --mesh takes some of them"
            )
            return None
    if jax.process_count() > 1 and count < len(devices):
        raise InvalidInputError(
            f"--mesh {options.mesh} must take all {len(devices)} devices of "
            f"{jax.process_count()} processes, not {count}"
        )
    return Mesh(np.array(devices[:count]).reshape(tuple(axes.values())), tuple(axes))


def _parse(text: str) -> dict[str, int]:
    axes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        known = name in ("data", "trial") and name not in axes
        if not (known and size.isascii() and size.isdigit() and int(size)):
            raise InvalidInputError(
                f"--mesh must be like data=4 or data=4,trial=2, got {text!r}"
            )
        axes[name] = int(size)
    return axes
