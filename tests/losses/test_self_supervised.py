"""Special cases of the similarity of views; the rest is in test_every_loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import example_relations as definitions

from jaxkd import losses


def gradient(loss, student, teacher):
    total = lambda s, t: loss(s, t).sum()
    return jax.jit(jax.grad(total))(jnp.asarray(student), jnp.asarray(teacher))


@pytest.mark.usefixtures("x64")
def test_self_supervised_similarity_has_its_closed_form_gradient():
    rng = np.random.default_rng(0)
    views, teacher_views = rng.normal(size=(2, 5, 3))
    originals = jnp.eye(3)  # unit vectors: the cosines are the views' own components
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    loss = lambda v, t: losses.self_supervised_similarity(v, originals, t, originals)
    slope = gradient(loss, views, teacher_views)
    q = jax.nn.softmax(views / 0.5)
    p = jax.nn.softmax(definitions.cosines(teacher_views, np.eye(3)) / 0.5)
    by_cosine = 0.5 * (q - p)
    expected = by_cosine - views * (views * by_cosine).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_views_and_originals_of_other_widths_are_refused():
    x, y = jnp.ones((4, 3)), jnp.ones((4, 2))
    with pytest.raises(ValueError, match="teacher_views and teacher_originals"):
        losses.self_supervised_similarity.__wrapped__(x, x, x, y)
