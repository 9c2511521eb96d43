"""Channel shuffle, which both ShuffleNets use."""

from jaxtyping import Array, Shaped


def channel_shuffle(
    x: Shaped[Array, "*batch c"], *, groups: int
) -> Shaped[Array, "*batch c"]:
    r"""Interleave the groups of channels, so that the next grouping mixes them.

    With :math:`g` groups of :math:`n` consecutive channels each, output channel
    :math:`ig + j` is input channel :math:`jn + i`.

    Args:
        x: Channels-last features.
        groups: Number of groups; must divide the number of channels.
    """
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return grouped.swapaxes(-1, -2).reshape(x.shape)
