"""Networks under the names of torchvision and timm."""

import jax
import numpy as np
import pytest
import torch
import torch_networks
from flax import nnx
from model_support import abstract_rngs, quickly_built
from torch_support import as_numpy, logits

from jaxkd import interchange, models
from jaxkd.interchange._layout import tensors

FOR_LARGE_IMAGES = (
    *("resnet18", "resnet34", "resnet50", "ResNet50", "efficientnet_lite0"),
    *("vit_ti", "vit_s", "vit_b"),
)
IMAGES = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)


def shapes_of(build):
    """The state dict of a published network, without its values."""
    with torch.device("meta"):
        state = build().state_dict()
    return {n: np.broadcast_to(np.float32(0), tuple(x.shape)) for n, x in state.items()}


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
@pytest.mark.parametrize("name", torch_networks.PUBLISHED)
def test_torchvision_networks_are_recognized_by_their_names(name, prefix):
    state = shapes_of(torch_networks.PUBLISHED[name])
    state = {f"{prefix}{tensor}": x for tensor, x in state.items()}
    found = interchange.recognize(state, among=FOR_LARGE_IMAGES, image_size=224)
    assert found == (name, 1000, 3)


def own_logits(network, state):
    network = nnx.eval_shape(lambda: network(abstract_rngs()))
    interchange.load_state_dict(network, state)
    if not isinstance(network, models.VisionTransformer):
        network = nnx.view(network, use_running_average=True)
    return jax.jit(lambda network, x: network(x).logits)(network, IMAGES)


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_resnets_compute_what_pytorch_computes(block):
    sizes = ((1, 2, 1, 1), (8, 8, 16, 16, 32))
    theirs = torch_networks.resnet(getattr(torch_networks, block), *sizes, classes=5)
    theirs = torch_networks.with_random_values(theirs)
    ours = lambda rngs: models.ResNet(
        getattr(models, block), *sizes, small_images=False, num_classes=5, rngs=rngs
    )
    expected = logits(theirs, IMAGES)
    found = own_logits(ours, as_numpy(theirs.state_dict()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("old_names", [False, True])
def test_vision_transformers_compute_what_pytorch_computes(old_names):
    theirs = torch_networks.VisionTransformer(
        *(64, 16, 24), depth=12, heads=3, classes=5, old_names=old_names
    )
    theirs = torch_networks.with_random_values(theirs)
    ours = lambda rngs: models.VisionTransformer(
        (64, 64), 24, depth=12, heads=3, num_classes=5, rngs=rngs
    )
    expected = logits(theirs, IMAGES)
    found = own_logits(ours, as_numpy(theirs.state_dict()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0.1


# The first and last tensors of tf_efficientnet_lite0 in timm, and some between.
TIMM = {
    "conv_stem.weight": (32, 3, 3, 3),
    "bn1.weight": (32,),
    "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
    "blocks.0.0.bn1.bias": (32,),
    "blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
    "blocks.0.0.bn2.running_var": (16,),
    "blocks.1.0.conv_pw.weight": (96, 16, 1, 1),
    "blocks.1.0.bn1.weight": (96,),
    "blocks.1.0.conv_dw.weight": (96, 1, 3, 3),
    "blocks.1.0.bn2.weight": (96,),
    "blocks.1.0.conv_pwl.weight": (24, 96, 1, 1),
    "blocks.1.0.bn3.weight": (24,),
    "blocks.3.2.conv_pw.weight": (480, 80, 1, 1),
    "blocks.6.0.conv_pwl.weight": (320, 1152, 1, 1),
    "conv_head.weight": (1280, 320, 1, 1),
    "bn2.running_mean": (1280,),
    "classifier.weight": (1000, 1280),
}


def timm_names(state):
    """The names of timm, by a rule of its own for each part of the network."""
    groups = [(i, j) for i, n in enumerate((1, 2, 2, 3, 3, 4, 1)) for j in range(n)]
    first = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw"}
    first |= {"bn2": "bn2"}
    other = {"expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw"}
    other |= {"bn1": "bn2", "project_conv": "conv_pwl", "bn2": "bn3"}
    outer = {"_bn0": "bn1", "_bn1": "bn2", "_fc": "classifier"}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            group, block = groups[int(parts[1])]
            layer = (first if (group, block) == (0, 0) else other)[parts[2][1:]]
            yield f"blocks.{group}.{block}.{layer}.{parts[3]}", value
        else:
            first_part = outer.get(parts[0], parts[0][1:])
            yield f"{first_part}.{parts[1]}", value


def test_timms_names_of_efficientnet_lite0_are_replaced():
    def build(seed):
        construct = lambda rngs: models.EfficientNetLite(4, 8, num_classes=3, rngs=rngs)
        return quickly_built(construct, seed)

    state = interchange.to_state_dict(build(0))
    network = build(1)
    interchange.load_state_dict(network, dict(timm_names(state)))
    for name, array in interchange.to_state_dict(network).items():
        np.testing.assert_array_equal(array, state[name])


def test_the_rule_gives_the_names_and_shapes_of_timm():
    build = lambda: models.EfficientNetLite(num_classes=1000, rngs=abstract_rngs())
    own = {tensor.name: tensor.shape for tensor in tensors(nnx.eval_shape(build))}
    theirs = dict(timm_names(own))
    assert {name: theirs.get(name) for name in TIMM} == TIMM
    state = {n: np.broadcast_to(np.float32(0), shape) for n, shape in theirs.items()}
    found = interchange.recognize(state, among=FOR_LARGE_IMAGES, image_size=224)
    assert found == ("efficientnet_lite0", 1000, 3)
