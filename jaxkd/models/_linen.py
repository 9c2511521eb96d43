"""Adapter for networks written in Flax Linen, the older of Flax's interfaces."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float

from jaxkd._errors import InvalidInputError

Arguments = Callable[[bool], Mapping[str, Any]]

_STATISTICS, _INTERMEDIATES = "batch_stats", "intermediates"
_TYPES = {"params": nnx.Param, _STATISTICS: nnx.BatchStat}


def _train_argument(train: bool) -> Mapping[str, Any]:
    return {"train": train}


class LinenNetwork(nnx.Module):
    """Linen module with its variables, built by :func:`from_linen`.

    Args:
        module: The Linen module.
        variables: Collections of the module's variables.
        arguments: Function that returns the keyword arguments of the module.
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
        """Set the mode; ``nnx.view`` calls this method, as for ``nnx.BatchNorm``."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def collections(self) -> dict[str, Any]:
        """Return the variables in the format of ``module.apply``."""
        return jax.tree.map(lambda v: v[...], self.variables, is_leaf=_is_variable)

    def __call__(self, images: Float[Array, "b h w c"]) -> Any:
        """Apply the module; outside inference mode, update its statistics."""
        train = not self.use_running_average
        output, updates = self.apply(images, train=train)
        if train:
            self._update(updates.get(_STATISTICS, {}))
        return output

    def apply(self, images: Array, *, train: bool) -> tuple[Any, Mapping[str, Any]]:
        """Return the output, and the new values of collections that were changed."""
        output, updates, _ = self._apply(images, train=train, capture=False)
        return output, updates

    def apply_with_calls(
        self, images: Array, *, train: bool
    ) -> tuple[Any, Mapping[str, Any], dict[tuple[str, ...], tuple[Any, ...]]]:
        """Do the same, and return the outputs of each call of the layers inside."""
        return self._apply(images, train=train, capture=True)

    def _apply(self, images, *, train, capture):
        rngs = {}
        if train:
            # Linen uses this stream in place of all streams that are not given.
            rngs = {"params": self.noise()}
        output, updated = self.module.apply(
            self.collections(),
            images,
            mutable=[*([_STATISTICS] * train), *([_INTERMEDIATES] * capture)],
            capture_intermediates=capture,
            rngs=rngs,
            **self.arguments(train),
        )
        updates: Any = updated
        return output, updates, dict(_calls((), updates.get(_INTERMEDIATES, {})))

    def _update(self, statistics: Mapping[str, Any]) -> None:
        old = self.variables.get(_STATISTICS, {})
        for variable, value in zip(
            jax.tree.leaves(old, is_leaf=_is_variable),
            jax.tree.leaves(statistics),
            strict=True,
        ):
            variable[...] = value


def _calls(path: tuple[str, ...], tree: Mapping[str, Any]):
    """Yield the path and the outputs of each layer below the module itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _calls((*path, name), value)
        elif name == "__call__" and path:
            yield path, value


def from_linen(
    module: linen.Module,
    *,
    image_shape: tuple[int, int, int],
    variables: Mapping[str, Any] | None = None,
    arguments: Arguments = _train_argument,
    rngs: nnx.Rngs,
) -> LinenNetwork:
    """Convert a Linen module to a network that can be trained or used as a teacher.

    Its parameters are trained. Its ``batch_stats`` are updated in training and used in
    inference mode. Other collections are read but not changed. Dropout, and other
    layers that are random in training, draw new numbers in each step.

    Args:
        module: A Linen module that maps normalized NHWC images to a
            :class:`jaxkd.models.ModelOutput`.
        image_shape: Height, width and channels of the images.
        variables: Collections of an initialized or trained module, such as
            ``{"params": ..., "batch_stats": ...}``. By default, they are initialized.
        arguments: Function from a bool (whether the module is in training) to the
            keyword arguments of the module. The default is
            ``lambda train: {"train": train}``. Other modules need, for instance,
            ``lambda train: {"deterministic": not train}`` or ``lambda train: {}``.
        rngs: Randomness for the initial parameters and for dropout.

    Returns:
        An NNX module. Its method ``collections()`` returns the variables in Linen's
        format. The network has no attribute ``classifier``, which methods that reuse
        the teacher's classifier and :func:`jaxkd.models.center_classifier` require.

    Raises:
        InvalidInputError: If the module cannot be called with these arguments, or
            ``variables`` do not belong to this module.

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
            f"{dict(arguments(True))} ({error}); pass a function as arguments= that "
            "returns the arguments for training and inference, such as "
            "lambda train: {'deterministic': not train}, or lambda train: {}",
            argument="arguments",
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
                f"{name} is {found} and must be {expected}",
                argument="variables",
            )
