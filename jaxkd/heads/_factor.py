"""Paraphraser and translator of factor transfer."""

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
    """3x3 convolutions of unchanged size, each followed by a leaky ReLU (slope 0.1)."""

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
        # A bias before a normalization has no gradient, since the mean is subtracted.
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
    """Convolutional autoencoder of the teacher's features; its code is the factor.

    Three 3x3 convolutions, each followed by a leaky ReLU of slope 0.1, map c channels
    to c, k and k channels. Three transposed convolutions map them back to k, c and c.

    Args:
        in_channels: Channels c of the teacher's feature maps.
        rate: Ratio k/c of the factor's channels; k is rounded down.
        normalize: Whether to follow every convolution by batch normalization. The
            paraphraser of the published benchmarks has none.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Raises:
        ValueError: If the rate is so small that the factor has no channel.

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
        """Compute the factor of a batch of the teacher's feature maps."""
        return self.encoder(_checks.as_float_array(x, "x"))

    def __call__(self, x: Float[ArrayLike, "b h w c"]) -> Float[Array, "b h w c"]:
        """Encode feature maps and reconstruct them from their factor."""
        return self.decoder(self.encode(x))


class Translator(nnx.Module):
    """Network that predicts the teacher's factor from the student's features.

    Three 3x3 convolutions, each followed by batch normalization and a leaky ReLU of
    slope 0.1, map c channels to c, k and k channels.

    Args:
        in_channels: Channels c of the student's feature maps.
        out_channels: Channels k of the factor.
        normalize: Whether to follow every convolution by batch normalization.
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
        """Translate a batch of the student's feature maps."""
        return self.encoder(_checks.as_float_array(x, "x"))


def factor_channels(in_channels: int, rate: float | int) -> int:
    """Return the number of channels of the factor.

    Raises:
        ValueError: If it would be zero.
    """
    _checks.check_at_least(1, in_channels=in_channels)
    _checks.check_finite_positive(rate=rate)
    channels = int(in_channels * rate)
    if channels < 1:
        raise InvalidInputError(
            f"rate is {rate}, but then the factor of {in_channels} channels has no "
            f"channel; choose at least {1 / in_channels:.2g}",
            argument="rate",
        )
    return channels
