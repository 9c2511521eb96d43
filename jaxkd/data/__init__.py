"""Datasets, augmentation and batching."""

from jaxkd.data._augment import augment as augment
from jaxkd.data._batching import PaddedBatches as PaddedBatches
from jaxkd.data._batching import batch_rows as batch_rows
from jaxkd.data._batching import epoch_order as epoch_order
from jaxkd.data._batching import padded_batches as padded_batches
from jaxkd.data._batching import steps_per_epoch as steps_per_epoch
from jaxkd.data._dataset import Augmentation as Augmentation
from jaxkd.data._dataset import ImageDataset as ImageDataset
from jaxkd.data._dataset import RandAugment as RandAugment
from jaxkd.data._dataset import take_subset as take_subset
from jaxkd.data._folder import files_passed_over as files_passed_over
from jaxkd.data._load import is_path as is_path
from jaxkd.data._load import load as load
from jaxkd.data._mix import Mixed as Mixed
from jaxkd.data._mix import mix as mix
from jaxkd.data._normalize import Normalization as Normalization
from jaxkd.data._normalize import channel_statistics as channel_statistics
from jaxkd.data._normalize import normalize as normalize
from jaxkd.data._randaugment import randaugment as randaugment
from jaxkd.data._range import value_range as value_range
from jaxkd.data._split import Split as Split
from jaxkd.data._stream import ImageSource as ImageSource
from jaxkd.data._stream import Streamed as Streamed
from jaxkd.data._tfds import prepare as prepare
