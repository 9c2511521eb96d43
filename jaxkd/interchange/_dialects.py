"""Names that other libraries give to the tensors of jaxkd's networks."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeVar

from jaxkd.interchange._rename import replace_prefixes
from jaxkd.interchange._select import without_shared_prefix

Value = TypeVar("Value")


class _Dialect(NamedTuple):
    """Names of one library for one kind of network.

    Attributes:
        theirs: Name of a tensor that only these networks have in this library.
        ours: Its name in jaxkd.
        pairs: Prefixes of the library's names and those of jaxkd's; see
            :func:`jaxkd.interchange.rename`.
    """

    theirs: str
    ours: str
    pairs: tuple[tuple[str, str], ...]


_VIT_LAYER = "encoder.layers.encoder_layer_*."
_TORCHVISION_VIT = _Dialect(
    "encoder.pos_embedding",
    "pos_embed",
    (
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("conv_proj.", "patch_embed.proj."),
        (f"{_VIT_LAYER}ln_1.", "blocks.*.norm1."),
        (f"{_VIT_LAYER}self_attention.in_proj_", "blocks.*.attn.qkv."),
        (f"{_VIT_LAYER}self_attention.out_proj.", "blocks.*.attn.proj."),
        (f"{_VIT_LAYER}ln_2.", "blocks.*.norm2."),
        (f"{_VIT_LAYER}mlp.0.", "blocks.*.mlp.fc1."),
        (f"{_VIT_LAYER}mlp.3.", "blocks.*.mlp.fc2."),
        # Until torchvision 0.12.
        (f"{_VIT_LAYER}mlp.linear_1.", "blocks.*.mlp.fc1."),
        (f"{_VIT_LAYER}mlp.linear_2.", "blocks.*.mlp.fc2."),
        ("encoder.ln.", "norm."),
        ("heads.head.", "head."),
    ),
)


def _timm_lite0() -> Iterator[tuple[str, str]]:
    """Yield the prefixes of timm, which numbers the blocks within their groups."""
    yield from (("bn1.", "_bn0."), ("bn2.", "_bn1."), ("classifier.", "_fc."))
    yield from (("conv_stem.", "_conv_stem."), ("conv_head.", "_conv_head."))
    layers = ("conv_dw", "bn1", "conv_pw", "bn2")  # The first block does not expand.
    ours = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    number = 0
    for group, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)):
        for block in range(blocks):
            for layer, name in zip(layers, ours, strict=True):
                yield f"blocks.{group}.{block}.{layer}.", f"_blocks.{number}.{name}."
            number += 1
        layers = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        ours = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1")
        ours = (*ours, "_project_conv", "_bn2")


_TIMM_LITE0 = _Dialect(
    "blocks.1.0.conv_pwl.weight",
    "_blocks.1._project_conv.weight",
    tuple(_timm_lite0()),
)

_DIALECTS = (_TORCHVISION_VIT, _TIMM_LITE0)


def aligned(state: Mapping[str, Value], wanted: Collection[str]) -> dict[str, Value]:
    """Change the names of a state dict if this makes more of them match.

    Training scripts and Lightning put networks into attributes such as ``model``,
    which their state dicts name first. This shared prefix is removed, and names of
    other libraries are replaced.

    Args:
        state: A state dict.
        wanted: Names of a network's tensors.
    """
    names = set(wanted)
    stripped, _ = without_shared_prefix(state)
    candidates = [dict(state), stripped]
    candidates += [
        replace_prefixes(stripped, dialect.pairs)
        for dialect in _DIALECTS
        if dialect.ours in names and dialect.theirs in stripped
    ]
    return max(candidates, key=lambda candidate: len(names & candidate.keys()))
