"""Judge embeddings by nearest neighbors and linear probes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

_CHUNK = 1000
_L2 = 1e-4
_STEPS = 200


def recall(embedding: np.ndarray, labels: np.ndarray) -> float:
    """Return recall@1: how often the most similar other image has the same class.

    Args:
        embedding: ``[images, features]``; compared by cosine.
        labels: ``[images]``.
    """
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1), 1e-12)[:, None]
    hits = 0
    for first in range(0, len(unit), _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, len(unit)))
        similar = unit[rows] @ unit.T
        similar[np.arange(len(rows)), rows] = -np.inf
        hits += int((labels[similar.argmax(1)] == labels[rows]).sum())
    return hits / len(unit)


def linear(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
) -> float:
    """Return the test accuracy of a linear probe of embeddings.

    The embeddings are standardized by those of the training images. The probe
    minimizes the cross-entropy and a small L2 penalty by L-BFGS.
    """
    names = np.unique(train_labels)
    targets = jnp.asarray(np.searchsorted(names, train_labels))
    mean, scale = train.mean(0), np.maximum(train.std(0), 1e-6)
    inputs = jnp.asarray((train - mean) / scale)

    def loss(parameters):
        kernel, bias = parameters
        logits = inputs @ kernel + bias[None]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return losses.mean() + _L2 * jnp.sum(kernel**2)

    kernel, bias = _minimize(
        loss, (jnp.zeros((inputs.shape[1], len(names))), jnp.zeros(len(names)))
    )
    logits = (test - mean) / scale @ np.asarray(kernel) + np.asarray(bias)
    return float((names[logits.argmax(1)] == test_labels).mean())


def _minimize(loss, parameters):
    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    @jax.jit
    def step(parameters, state):
        value, gradient = value_and_grad(parameters, state=state)
        updates, state = solver.update(
            gradient, state, parameters, value=value, grad=gradient, value_fn=loss
        )
        return optax.apply_updates(parameters, updates), state

    state = solver.init(parameters)
    for _ in range(_STEPS):
        parameters, state = step(parameters, state)
    return parameters
