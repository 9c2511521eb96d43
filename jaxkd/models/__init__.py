"""The model zoo. Every model returns a :class:`ModelOutput`."""

from jaxkd.models._center import center_classifier as center_classifier
from jaxkd.models._cifar_resnet import BasicBlock as BasicBlock
from jaxkd.models._cifar_resnet import CifarResNet as CifarResNet
from jaxkd.models._layers import TorchLayer as TorchLayer
from jaxkd.models._mlp import MLP as MLP
from jaxkd.models._output import ModelOutput as ModelOutput
from jaxkd.models._registry import build as build
from jaxkd.models._registry import names as names
