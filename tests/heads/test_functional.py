import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxkd import heads


class Regressor(nnx.Module):
    """A head with everything awkward: a list, statistics, randomness of its own."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.name = "static"

    def __call__(self, x):
        return self.norm(self.layers[0](x) + self.layers[1](x))


def make(rngs):
    return Regressor(rngs=rngs)


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(2, 3, (8, 3)), jnp.float32)


def test_bound_heads_compute_what_the_module_computes(x):
    params, rest = heads.init_heads(make, nnx.Rngs(0))
    expected = make(nnx.Rngs(0))(x)
    np.testing.assert_array_equal(heads.bind_heads(make, params, rest)(x), expected)
    compiled = jax.jit(lambda p, r, x: heads.bind_heads(make, p, r)(x))
    np.testing.assert_allclose(compiled(params, rest, x), expected, atol=1e-6)


def test_parameters_and_the_rest_are_dictionaries_of_arrays():
    params, rest = heads.init_heads(make, nnx.Rngs(0))
    assert type(params) is type(rest) is dict
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((params, rest)))
    assert set(params) == {"layers", "norm"}
    assert set(rest["norm"]) == {"mean", "var"}


def test_statistics_end_up_in_the_rest(x):
    params, rest = heads.init_heads(make, nnx.Rngs(0))

    @jax.jit
    def step(params, rest, x):
        module = heads.bind_heads(make, params, rest)
        module(x)
        return heads.rest_of(module)

    new = step(params, rest, x)
    assert jax.tree.structure(new) == jax.tree.structure(rest)
    linear = make(nnx.Rngs(0))
    mean = (linear.layers[0](x) + linear.layers[1](x)).mean(axis=0)
    np.testing.assert_allclose(new["norm"]["mean"], 0.5 * mean, rtol=1e-5)
    np.testing.assert_array_equal(rest["norm"]["mean"], 0.0)


def test_an_optimizer_trains_the_parameters(x):
    params, rest = heads.init_heads(make, nnx.Rngs(0))
    optimizer = optax.sgd(0.1, momentum=0.9)

    @jax.jit
    def step(params, opt_state):
        def objective(params):
            return jnp.mean((heads.bind_heads(make, params, rest)(x) - 1) ** 2)

        value, grads = jax.value_and_grad(objective)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    opt_state, values = optimizer.init(params), []
    for _ in range(20):
        params, opt_state, value = step(params, opt_state)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]


def test_heads_of_several_trials_are_one_vmapped_call(x):
    trees = [heads.init_heads(make, nnx.Rngs(seed)) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    outputs = jax.vmap(lambda p, r: heads.bind_heads(make, p, r)(x))(*stacked)
    for output, (params, rest) in zip(outputs, trees, strict=True):
        expected = heads.bind_heads(make, params, rest)(x)
        np.testing.assert_allclose(output, expected, atol=1e-5)
