"""Every rule: a program in ONNX Runtime computes what it computes in JAX."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxkd import InvalidInputError
from jaxkd.interchange._to_onnx.runtime import Session
from jaxkd.interchange._to_onnx.shapes import axis_groups
from jaxkd.interchange._to_onnx.translate import to_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("quickly_compiled")

KERNEL = np.random.default_rng(1).normal(size=(3, 3, 4, 6)).astype(np.float32)
GROUPED = np.random.default_rng(2).normal(size=(3, 3, 2, 6)).astype(np.float32)
MATRIX = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def translated(function, shape=(6, 6, 4)):
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    return to_onnx(jax.jit(function).trace(images).jaxpr, {})


def convolution(x, kernel=KERNEL, strides=(1, 1), padding="SAME", **settings):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=LAYOUT, **settings
    )


def shuffled(x):
    """Channel shuffle after a convolution: its channels are stored first."""
    y = convolution(x)
    return y.reshape(*y.shape[:3], 2, 3).swapaxes(3, 4).reshape(y.shape)


@jax.custom_jvp
def doubled(x):
    return 2.0 * x


doubled.defjvp(lambda primals, tangents: (2.0 * primals[0], 2.0 * tangents[0]))

PROGRAMS = {
    "convolution": convolution,
    "strides": lambda x: convolution(x, strides=(2, 2)),
    "uneven padding": lambda x: convolution(x, padding=((0, 2), (1, 0))),
    "dilation": lambda x: convolution(x, rhs_dilation=(2, 2)),
    "groups": lambda x: convolution(x, GROUPED, feature_group_count=2),
    "bias": lambda x: convolution(x) + jnp.arange(6.0).reshape(1, 1, 1, 6),
    "bias, twice read": lambda x: (y := convolution(x)) * (y + jnp.ones((1, 1, 1, 6))),
    "sum per position": lambda x: convolution(x) + jnp.arange(36.0).reshape(1, 6, 6, 1),
    "residual": lambda x: convolution(x)[..., :4] + x,
    "maximum pooling": lambda x: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
    ),
    "sum pooling": lambda x: lax.reduce_window(
        x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 0), (0, 0))
    ),
    "global mean": lambda x: convolution(x).mean((1, 2)),
    "product": lambda x: x @ MATRIX,
    "product and bias": lambda x: x[:, 0, 0] @ MATRIX + jnp.arange(5.0)[None],
    "product over two axes": lambda x: jnp.einsum(
        "bhwc,hwd->bcd", x, np.ones((6, 6, 2), np.float32)
    ),
    "product in batches": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x),
    "product with several rows": lambda x: jnp.einsum("bhwc,bdc->bhwd", x, x[:, 0]),
    "attention": lambda x: jax.nn.dot_product_attention(x, x, x),
    "softmax": lambda x: jax.nn.softmax(x),
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
    "softplus": lambda x: jnp.log1p(jnp.exp(x)),
    "relu": lambda x: jnp.maximum(x, 0.0),
    "leaky relu": lambda x: jnp.where(x < 0.0, 0.1 * x, x),
    "relu6": lambda x: jnp.clip(x, 0.0, 6.0),
    "clamp": lambda x: lax.clamp(-0.5, x, 0.5),
    "minimum": lambda x: jnp.minimum(x, 0.3),
    "maximum": lambda x: jnp.maximum(x, 0.3),
    "unequal": lambda x: (x != x[:, :1]).astype(jnp.float32),
    "powers": lambda x: x**3 + lax.rsqrt(jnp.square(x) + 1.0),
    "layer norm": lambda x: (
        (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
    ),
    "maximum of axes": lambda x: convolution(x).max((1, 3)),
    "transposes": lambda x: convolution(x).transpose(0, 2, 3, 1)[..., :2],
    "flattened": lambda x: convolution(x).reshape(x.shape[0], -1),
    "tokens": lambda x: convolution(x).reshape(x.shape[0], 36, 6),
    "channel shuffle": shuffled,
    "class token": lambda x: jnp.concatenate(
        [jnp.broadcast_to(jnp.arange(4.0), (x.shape[0], 1, 4)), x[:, 0]], axis=1
    ),
    "repeated axis": lambda x: jnp.broadcast_to(x[:, :1], x.shape) + x,
    "concatenation": lambda x: jnp.concatenate([convolution(x), x], axis=-1),
    "split": lambda x: jnp.split(convolution(x), [2, 3], axis=-1)[1],
    "unstack": lambda x: sum(jnp.unstack(convolution(x), axis=2)),
    "slices": lambda x: convolution(x)[:, 1:5:2, :3, 1],
    "every second": lambda x: convolution(x)[:, ::2, 1::2],
    "picked": lambda x: x[:, np.array([3, 1]), :, np.array([0, 2])],
    "picked and cut": lambda x: x[:, np.array([[3, 1]]), 2:4],
    "padding": lambda x: jnp.pad(convolution(x), ((0, 0), (1, 2), (0, 0), (0, 1))),
    "squeeze": lambda x: convolution(x).mean(1, keepdims=True).squeeze(1),
    "custom derivative": lambda x: doubled(x),
    "rematerialized": lambda x: jax.checkpoint(jnp.sin)(x),
    "constants": lambda x: x + jnp.exp(jnp.arange(4.0)).reshape(1, 1, 1, 4),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_computes_the_same_in_onnx_runtime(name):
    function = PROGRAMS[name]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        session = Session(translated(function).SerializeToString())
        for batch in (1, 3):
            x = np.random.default_rng(0).normal(size=(batch, 6, 6, 4))
            x = x.astype(np.float32)
            expected = np.asarray(jax.jit(function)(x))
            np.testing.assert_allclose(session(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "function, says",
    [
        (lambda x: lax.scan(lambda c, _: (c + 1.0, None), x, None, 3)[0], "'scan'"),
        (lambda x: jnp.sort(x), "'sort'"),
        (lambda x: x.astype(jnp.bfloat16), "bfloat16"),
        (
            lambda x: convolution(x, padding=((1, 1), (1, 1)), lhs_dilation=(2, 2)),
            "transposed convolution",
        ),
        (lambda x: x[:, x[0, 0, 0, :2].astype(jnp.int32)], "number of images"),
        (lambda x: x.mean(0), "number of images"),
        (lambda x: jnp.einsum("bhwc,dhwc->bd", x, x), r"a reshape to \(batch, batch\)"),
    ],
)
def test_what_cannot_be_written_is_named(function, says):
    with pytest.raises(InvalidInputError, match=says):
        translated(function)


def test_a_convolution_takes_its_bias():
    nodes = {node.op_type: node for node in translated(PROGRAMS["bias"]).graph.node}
    assert "Add" not in nodes
    assert len(nodes["Conv"].input) == 3


@pytest.mark.parametrize(
    "before, after, groups",
    [
        ([None, 6], [None, 2, 3], [([0], [0]), ([1], [1, 2])]),
        ([None, 2, 3], [None, 6], [([0], [0]), ([1, 2], [1])]),
        ([4, 6], [6, 4], None),
        ([None, 4], [None, 4, 1], None),
        ([2, 6], [12], [([0, 1], [0])]),
    ],
)
def test_reshapes_are_taken_apart(before, after, groups):
    assert axis_groups(before, after) == groups


def test_channels_stay_first_between_convolutions():
    program = lambda x: jnp.maximum(
        convolution(jnp.maximum(convolution(x), 0.0)[..., :4]), 0.0
    )
    kinds = [node.op_type for node in translated(program).graph.node]
    # One before the first convolution, one after the last.
    assert kinds.count("Transpose") == 2
