"""Networks for image classification. All of them return a :class:`ModelOutput`."""

from jaxkd.models._center import center_classifier as center_classifier
from jaxkd.models._cifar_resnet import CifarResNet as CifarResNet
from jaxkd.models._fold import fold_batch_norms as fold_batch_norms
from jaxkd.models._layers import TorchLayer as TorchLayer
from jaxkd.models._linen import LinenNetwork as LinenNetwork
from jaxkd.models._linen import from_linen as from_linen
from jaxkd.models._mlp import MLP as MLP
from jaxkd.models._mobilenet_v2 import InvertedResidual as InvertedResidual
from jaxkd.models._mobilenet_v2 import MobileNetV2 as MobileNetV2
from jaxkd.models._output import ModelOutput as ModelOutput
from jaxkd.models._registry import build as build
from jaxkd.models._registry import names as names
from jaxkd.models._registry import published_image_size as published_image_size
from jaxkd.models._remat import call_block as call_block
from jaxkd.models._residual import BasicBlock as BasicBlock
from jaxkd.models._residual import Bottleneck as Bottleneck
from jaxkd.models._resnet import ResNet as ResNet
from jaxkd.models._reused import ReusedClassifier as ReusedClassifier
from jaxkd.models._shufflenet_v1 import ShuffleNetV1 as ShuffleNetV1
from jaxkd.models._shufflenet_v2 import ShuffleNetV2 as ShuffleNetV2
from jaxkd.models._vgg import VGG as VGG
from jaxkd.models._vit import VisionTransformer as VisionTransformer
from jaxkd.models._wide_resnet import PreActivationBlock as PreActivationBlock
from jaxkd.models._wide_resnet import WideResNet as WideResNet
