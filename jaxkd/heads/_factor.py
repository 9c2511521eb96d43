"""Paraphraser and translator: what factor transfer trains."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.heads._convolution import (
    batch_norm,
    convolution,
    normalized,
    transposed_convolution,
)

_NEGATIVE_SLOPE = 0.1


class _Layers(nnx.Module):
    """3x3 convolutions that keep the size, each with a leaky ReLU of slope 0.1."""

    def __init__(
        self,
        widths: Sequence[int],
        *,
        transposed: bool = False,
        normalize: bool,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.convs, self.norms = nnx.List(), nnx.List()
        # Before a normalisation, which takes the mean out, it would have no gradient.
        options = {"use_bias": not normalize, "dtype": dtype, "rngs": rngs}
        for width, out in itertools.pairwise(widths):
            if transposed:
                conv = transposed_convolution(width, out, 3, **options)
            else:
                conv = convolution(width, out, (3, 3), padding=1, **options)
            self.convs.append(conv)
            if normalize:
                self.norms.append(batch_norm(out, dtype=dtype, rngs=rngs))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w out"]:
        norms = self.norms or [None] * len(self.convs)
        for conv, norm in zip(self.convs, norms, strict=True):
            x = conv(x)
            x = x if norm is None else normalized(norm, x)
            x = nnx.leaky_relu(x, _NEGATIVE_SLOPE)
        return x


class Paraphraser(nnx.Module):
    """A convolutional autoencoder of the teacher's features; its code is the factor.

    Three 3x3 convolutions, each with a leaky ReLU of slope 0.1, take c channels to c,
    k and k; three transposed ones take them back to k, c and c.

    Args:
        in_channels: Channels of the teacher's feature maps, c.
        rate: Channels of the factor relative to those; k is rounded down.
        normalize: Whether batch normalisation follows every convolution. The published
            benchmarks' paraphraser has none.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Raises:
        ValueError: If the rate leaves the factor no channel.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> paraphraser = heads.Paraphraser(6, rate=0.5, rngs=nnx.Rngs(0))
        >>> x = jnp.ones((2, 4, 4, 6))
        >>> paraphraser.encode(x).shape, paraphraser(x).shape
        ((2, 4, 4, 3), (2, 4, 4, 6))

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018, Sec. 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        rate: float | int = 0.5,
        normalize: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        factor = factor_channels(in_channels, rate)
        options = {"normalize": normalize, "dtype": dtype, "rngs": rngs}
        self.encoder = _Layers((in_channels, in_channels, factor, factor), **options)
        self.decoder = _Layers(
            (factor, factor, in_channels, in_channels), transposed=True, **options
        )

    def encode(self, x: Float[ArrayLike, "b h w c"]) -> Float[Array, "b h w k"]:
        """The factor of a batch of the teacher's feature maps."""
        return self.encoder(_checks.as_float_array(x, "x"))

    def __call__(self, x: Float[ArrayLike, "b h w c"]) -> Float[Array, "b h w c"]:
        """Encodes feature maps and reconstructs them from their factor."""
        return self.decoder(self.encode(x))


class Translator(nnx.Module):
    """Makes of the student's features what the paraphraser makes of the teacher's.

    Three 3x3 convolutions, each with batch normalisation and a leaky ReLU of slope 0.1,
    take c channels to c, k and k.

    Args:
        in_channels: Channels of the student's feature maps, c.
        out_channels: Channels of the factor, k.
        normalize: Whether batch normalisation follows every convolution.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> translator = heads.Translator(4, 3, rngs=nnx.Rngs(0))
        >>> translator(jnp.ones((2, 8, 8, 4))).shape
        (2, 8, 8, 3)

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018, Sec. 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        normalize: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(1, in_channels=in_channels, out_channels=out_channels)
        self.encoder = _Layers(
            (in_channels, in_channels, out_channels, out_channels),
            normalize=normalize,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: Float[ArrayLike, "b h w c"]) -> Float[Array, "b h w k"]:
        """Translates a batch of the student's feature maps."""
        return self.encoder(_checks.as_float_array(x, "x"))


def factor_channels(in_channels: int, rate: float | int) -> int:
    """How many channels the factor of so many has.

    Raises:
        ValueError: If there would be none.
    """
    _checks.check_at_least(1, in_channels=in_channels)
    _checks.check_finite_positive(rate=rate)
    channels = int(in_channels * rate)
    if channels < 1:
        raise InvalidInputError(
            f"rate {rate} leaves none of {in_channels} channels to the factor; "
            f"choose at least {1 / in_channels:.2g}"
        )
    return channels
