"""Special cases of the relations among channels; the rest is in test_every_loss."""

import jax.numpy as jnp
import pytest

from jaxkd import losses


def test_channels_that_differ_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match="1x1 convolution"):
        losses.inter_channel_correlation.__wrapped__(
            jnp.ones((2, 2, 2, 3)), jnp.ones((2, 2, 2, 4))
        )
