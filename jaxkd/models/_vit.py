"""Vision transformers."""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import (
    TorchLayer,
    as_images,
    compute_dtype,
    convolution,
    linear,
    parameter_dtype,
    torch_uniform,
)
from jaxkd.models._output import ModelOutput
from jaxkd.models._remat import call_block

_EPSILON = 1e-6  # Of the layer normalizations, as published.
_STAGES = 4

# The published initializer also truncates, but at 100 standard deviations.
_normal = nnx.initializers.normal(0.02)


class LayerNorm(nnx.LayerNorm):
    """Layer normalization over the channels, in at least float32.

    Args:
        channels: Channels of the input.
        dtype: Dtype of the network's computation and of the output.
        rngs: Required by Flax; scale and bias are initialized to one and zero.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        stored = parameter_dtype(dtype)
        super().__init__(
            channels,
            epsilon=_EPSILON,
            dtype=stored,
            param_dtype=stored,
            use_fast_variance=False,  # Mean of squares - squared mean may cancel.
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "... c"], *, mask: Array | None = None
    ) -> Float[Array, "... c"]:
        """Normalize channels-last features; see Flax for the arguments."""
        # Flax promotes float64 and float32, which strict promotion does not allow.
        with jax.numpy_dtype_promotion("standard"):
            return super().__call__(x, mask=mask).astype(x.dtype)


class TransformerBlock(nnx.Module):
    r"""Self-attention, then a perceptron per token, both on normalized inputs.

    .. math::
        y = x + \mathrm{attention}(\mathrm{norm}_1(x)), \qquad
        y + W_2 \, \mathrm{gelu}(W_1 \, \mathrm{norm}_2(y)).

    Args:
        channels: Size of a token.
        heads: Number of attention heads; must divide the channels.
        expansion: Ratio of the perceptron's hidden units to the channels.
        dtype: Dtype of the computation. Parameters are float64 if it is float64,
            otherwise float32.
        rngs: Randomness for the initial parameters.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        expansion: int = 4,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        norm = functools.partial(LayerNorm, dtype=dtype, rngs=rngs)
        dense = functools.partial(
            linear,
            kernel_init=_normal,
            bias_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )
        self.heads = heads
        self.norm1 = norm(channels)
        self.qkv = dense(channels, 3 * channels)
        self.proj = dense(channels, channels)
        self.norm2 = norm(channels)
        self.fc1 = dense(channels, expansion * channels)
        self.fc2 = dense(expansion * channels, channels)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Map tokens to tokens."""
        x = x + self._attention(self.norm1(x))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))

    def _attention(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        # Channels of qkv: all queries, head by head, then all keys, then all values.
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)
        query, key, value = jnp.unstack(qkv, axis=2)
        y = dot_product_attention(query, key, value)
        return self.proj(y.reshape(x.shape))

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield f"{name}.norm1", self.norm1
        yield f"{name}.attn.qkv", self.qkv
        yield f"{name}.attn.proj", self.proj
        yield f"{name}.norm2", self.norm2
        yield f"{name}.mlp.fc1", self.fc1
        yield f"{name}.mlp.fc2", self.fc2


def dot_product_attention(
    query: Float[Array, "b q h d"],
    key: Float[Array, "b k h d"],
    value: Float[Array, "b k h d"],
) -> Float[Array, "b q h d"]:
    """Compute dot-product attention; in float64, without JAX's implementation."""
    if jnp.finfo(query.dtype).bits > 32:  # JAX's softmax would be float32.
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        weights = jax.nn.softmax(scores / math.sqrt(query.shape[-1]))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    # JAX promotes to at least float32, which strict promotion does not allow.
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(query, key, value)


class VisionTransformer(nnx.Module):
    r"""Vision transformer, in which a class token attends to the patches of an image.

    A strided convolution embeds the patches. The class token is prepended, and learned
    positions are added. The embedding is the class token after all blocks and a last
    normalization. There is neither dropout nor stochastic depth.

    Positions, class token and linear layers are initialized normal with standard
    deviation 0.02, their biases zero, and the embedding of the patches uniform within
    :math:`\pm 1/\sqrt{\text{fan-in}}`, as in DeiT.

    The output's ``stages`` are the input of the first block (the stem) and the outputs
    of the blocks at a quarter, half, three quarters and all of the depth, before the
    last normalization. They are the tokens of the patches as feature maps [batch,
    height / patch size, width / patch size, channels], without the class token. All
    have the same resolution. No stage ends with an activation, so ``preactivations``
    equal ``stages``.

    Args:
        image_size: Height and width of the images.
        channels: Size of a token: 192 (tiny), 384 (small).
        patch_size: Height and width of a patch; must divide those of the images.
        depth: Number of blocks, at least 4.
        heads: Number of attention heads of each block: 3 (tiny), 6 (small).
        num_classes: Number of logits.
        in_channels: Channels of the images.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters,
            normalization and softmax are float32. With float64 (which requires
            ``jax_enable_x64``), everything is float64.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If sizes, dtype or a number is invalid, or, when called, if
            the shape of the images differs from ``image_size`` and ``in_channels``.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.VisionTransformer(
        ...     (32, 48), 12, heads=3, depth=4, num_classes=10, rngs=nnx.Rngs(0)
        ... )
        >>> output = model(jnp.zeros((2, 32, 48, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 12))
        >>> [stage.shape[1:] for stage in output.stages]
        [(2, 3, 12), (2, 3, 12), (2, 3, 12), (2, 3, 12), (2, 3, 12)]

    References:
        Dosovitskiy et al., `An Image is Worth 16x16 Words: Transformers for Image
        Recognition at Scale <https://arxiv.org/abs/2010.11929>`_, 2021, Sec. 3.1;
        Touvron et al., `Training Data-Efficient Image Transformers and Distillation
        through Attention <https://arxiv.org/abs/2012.12877>`_, 2021, Table 1 (the
        networks without distillation token).
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        *,
        patch_size: int = 16,
        depth: int = 12,
        heads: int,
        num_classes: int,
        in_channels: int = 3,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(
            1,
            channels=channels,
            patch_size=patch_size,
            heads=heads,
            num_classes=num_classes,
            in_channels=in_channels,
            **{f"image_size[{i}]": size for i, size in enumerate(image_size)},
        )
        _checks.check_at_least(_STAGES, depth=depth)
        if channels % heads:
            raise InvalidInputError(
                f"channels must be a multiple of the number of heads, {heads}, "
                f"got {channels}",
                argument="channels",
            )
        height, width = image_size
        if height % patch_size or width % patch_size:
            raise InvalidInputError(
                "height and width of the images must be multiples of the patch size, "
                f"{patch_size}, got {height}x{width}; resize, pad or crop them, or set "
                "patch_size",
                argument="image_size",
            )
        self.image_shape = (height, width, in_channels)
        self.grid = (height // patch_size, width // patch_size)
        self.dtype = dtype = compute_dtype(dtype)
        stored = parameter_dtype(dtype)
        tokens = 1 + self.grid[0] * self.grid[1]
        self.class_token = nnx.Param(_normal(rngs.params(), (1, 1, channels), stored))
        self.positions = nnx.Param(
            _normal(rngs.params(), (1, tokens, channels), stored)
        )
        self.patches = _patch_embedding(
            in_channels, channels, patch_size, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List(
            TransformerBlock(channels, heads=heads, dtype=dtype, rngs=rngs)
            for _ in range(depth)
        )
        self.norm = LayerNorm(channels, dtype=dtype, rngs=rngs)
        self.classifier = linear(
            channels,
            num_classes,
            kernel_init=_normal,
            bias_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_images(images, self.dtype)
        if x.shape[1:] != self.image_shape:
            height, width, channels = self.image_shape
            raise InvalidInputError(
                f"images must be [batch, {height}, {width}, {channels}], since the "
                f"learned positions of this network have that size, got {x.shape}",
                argument="images",
            )
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = self.class_token[...].astype(self.dtype)
        first = jnp.broadcast_to(first, (x.shape[0], *first.shape[1:]))
        x = jnp.concatenate([first, x], axis=1) + self.positions[...].astype(self.dtype)
        stages = [self._as_map(x)]
        ends = {len(self.blocks) * i // _STAGES for i in range(1, _STAGES + 1)}
        for i, block in enumerate(self.blocks, start=1):
            x = call_block(block, x)
            if i in ends:
                stages.append(self._as_map(x))
        embedding = self.norm(x[:, 0])
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(stages)
        )

    def _as_map(self, x: Float[Array, "b n c"]) -> Float[Array, "b h w c"]:
        return x[:, 1:].reshape(x.shape[0], *self.grid, x.shape[-1])

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield "cls_token", self.class_token
        yield "pos_embed", self.positions
        yield "patch_embed.proj", self.patches
        for i, block in enumerate(self.blocks):
            yield from block.torch_layers(f"blocks.{i}")
        yield "norm", self.norm
        yield "head", self.classifier


def _patch_embedding(
    in_channels: int,
    channels: int,
    patch_size: int,
    *,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    bound = (in_channels * patch_size**2) ** -0.5

    def bias_init(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return convolution(
        in_channels,
        channels,
        patch_size,
        stride=patch_size,
        use_bias=True,
        kernel_init=torch_uniform,
        bias_init=bias_init,
        dtype=dtype,
        rngs=rngs,
    )
