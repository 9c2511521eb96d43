"""Networks of Flax Linen, the older of Flax's two interfaces."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float

from jaxkd._errors import InvalidInputError

Arguments = Callable[[bool], Mapping[str, Any]]

_STATISTICS = "batch_stats"
_TYPES = {"params": nnx.Param, _STATISTICS: nnx.BatchStat}


def _train_argument(train: bool) -> Mapping[str, Any]:
    return {"train": train}


class LinenNetwork(nnx.Module):
    """A Linen module and its variables; made by :func:`from_linen`.

    Args:
        module: The Linen module.
        variables: Its collections.
        arguments: What it is called with beside the images.
        rngs: Randomness for dropout.
    """

    def __init__(
        self,
        module: linen.Module,
        variables: Mapping[str, Any],
        *,
        arguments: Arguments,
        rngs: nnx.Rngs,
    ):
        self.module = module
        self.arguments = arguments
        self.use_running_average = False
        self.noise = rngs.dropout.fork()
        self.variables = nnx.data(
            {
                name: jax.tree.map(_TYPES.get(name, nnx.Variable), dict(collection))
                for name, collection in variables.items()
            }
        )

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Called by ``nnx.view``, as that of ``nnx.BatchNorm``."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def collections(self) -> dict[str, Any]:
        """The variables as Linen has them: what ``module.apply`` takes."""
        return jax.tree.map(lambda v: v[...], self.variables, is_leaf=_is_variable)

    def __call__(self, images: Float[Array, "b h w c"]) -> Any:
        """Applies the module; outside inference mode, updates its statistics."""
        train = not self.use_running_average
        values = self.collections()
        arguments = self.arguments(train)
        if not train:
            return self.module.apply(values, images, **arguments)
        output, updates = self.module.apply(
            values,
            images,
            mutable=[_STATISTICS],
            # Linen draws from this one what it finds no stream of its own for.
            rngs={"params": self.noise()},
            **arguments,
        )
        old = self.variables.get(_STATISTICS, {})
        for variable, value in zip(
            jax.tree.leaves(old, is_leaf=_is_variable),
            jax.tree.leaves(updates.get(_STATISTICS, {})),
            strict=True,
        ):
            variable[...] = value
        return output


def from_linen(
    module: linen.Module,
    *,
    image_shape: tuple[int, int, int],
    variables: Mapping[str, Any] | None = None,
    arguments: Arguments = _train_argument,
    rngs: nnx.Rngs,
) -> LinenNetwork:
    """Makes a Linen module a network like every other: to train, or as a teacher.

    Its parameters are trained; its ``batch_stats`` are updated in training and used in
    inference; other collections are read and stay as they are. Dropout, or whatever
    draws random numbers in training, gets new ones in every step.

    Args:
        module: A Linen module that maps normalized NHWC images to a
            :class:`jaxkd.models.ModelOutput`.
        image_shape: Height, width and channels of the images.
        variables: Its collections, if it has been initialized or trained already, such
            as ``{"params": ..., "batch_stats": ...}``; otherwise they are initialized.
        arguments: Says what the module is called with beside the images: a function of
            one truth value, whether this is training. By default
            ``lambda train: {"train": train}``; for others, say,
            ``lambda train: {"deterministic": not train}`` or ``lambda train: {}``.
        rngs: Randomness for the initial parameters, and for dropout.

    Returns:
        An NNX module; its ``collections()`` are the variables as Linen has them.
        Methods that use the teacher's classifier again, and
        :func:`jaxkd.models.center_classifier`, do not find one in it.

    Raises:
        InvalidInputError: If the module cannot be called with these arguments, or
            ``variables`` are not those of this module.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import linen, nnx
        >>> from jaxkd import models
        >>> class Linear(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, images):
        ...         x = images.reshape(len(images), -1)
        ...         return models.ModelOutput(linen.Dense(10)(x), x)
        >>> model = models.from_linen(
        ...     Linear(),
        ...     image_shape=(8, 8, 1),
        ...     arguments=lambda train: {},
        ...     rngs=nnx.Rngs(0),
        ... )
        >>> model(jnp.zeros((2, 8, 8, 1))).logits.shape
        (2, 10)
    """
    images = jnp.zeros((1, *image_shape))
    try:
        inspect.signature(module.__call__).bind(images, **arguments(True))
    except TypeError as error:
        raise InvalidInputError(
            f"{type(module).__name__} cannot be called with images and "
            f"{dict(arguments(True))} ({error}); say in arguments= what it takes in "
            "training and in inference, such as lambda train: {'deterministic': not "
            "train}, or lambda train: {}"
        ) from error

    def init(key) -> Mapping[str, Any]:
        return linen.meta.unbox(module.init(key, images, **arguments(False)))

    if variables is None:
        own = init(rngs.params())
    else:
        own = linen.meta.unbox(variables)
        _check_same(own, jax.eval_shape(init, jax.random.key(0)), module)
    return LinenNetwork(module, own, arguments=arguments, rngs=rngs)


def _is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)


def _check_same(given: Any, own: Any, module: linen.Module) -> None:
    shapes = [
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        }
        for tree in (given, own)
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        found, expected = (known.get(name, "nothing") for known in shapes)
        if found != expected:
            raise InvalidInputError(
                f"variables do not fit {type(module).__name__} on these images: "
                f"{name} is {found} and must be {expected}"
            )
