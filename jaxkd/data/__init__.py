"""Datasets, augmentation and batching.

To read how a dataset is loaded, start at ``_load``, and follow the images:

1. ``_load`` chooses between arrays and encoded images. Arrays come from ``_npz`` (which
   reads them with ``_archive``) and are selected in ``_in_memory``.
2. ``_source`` is the interface of encoded images. ``_folder`` (which finds files with
   ``_files``), ``_parquet`` (with ``_parquet_layout`` and ``_parquet_labels``) and
   ``_tfds`` (with ``_records``) implement it.
3. ``_slices`` parses rows such as ``train[:90%]``, and ``_plan`` chooses those for
   training and testing.
4. ``_description`` describes these rows before they are decoded.
5. ``_assemble`` builds the dataset: it decodes the images (``_decode``, ``_picture``)
   into the cache (``_cache``) or streams them (``_stream``). If one image is broken,
   ``_broken`` finds all of them.
6. ``_dataset`` validates the result with ``_split``, ``_labels`` and ``_range``.
   ``_repeated`` looks for leaked test images, ``_hold_out`` takes validation images
   out of the training set, and ``_unlabeled`` adds images without labels.

``_normalize``, ``_augment`` (with ``_resized_crop`` and ``_randaugment``), ``_mix`` and
``_batching`` are the functions that training applies to the images. ``_read_pictures``
reads pictures that belong to no dataset.
"""

from jaxkd.data._augment import augment as augment
from jaxkd.data._batching import PaddedBatches as PaddedBatches
from jaxkd.data._batching import batch_rows as batch_rows
from jaxkd.data._batching import epoch_order as epoch_order
from jaxkd.data._batching import padded_batches as padded_batches
from jaxkd.data._batching import steps_per_epoch as steps_per_epoch
from jaxkd.data._broken import BrokenImagesError as BrokenImagesError
from jaxkd.data._dataset import Augmentation as Augmentation
from jaxkd.data._dataset import ImageDataset as ImageDataset
from jaxkd.data._dataset import RandAugment as RandAugment
from jaxkd.data._dataset import take_subset as take_subset
from jaxkd.data._description import Description as Description
from jaxkd.data._hold_out import hold_out as hold_out
from jaxkd.data._load import describe as describe
from jaxkd.data._load import is_path as is_path
from jaxkd.data._load import load as load
from jaxkd.data._mix import Mixed as Mixed
from jaxkd.data._mix import mix as mix
from jaxkd.data._normalize import Normalization as Normalization
from jaxkd.data._normalize import channel_statistics as channel_statistics
from jaxkd.data._normalize import normalize as normalize
from jaxkd.data._plan import UnlabeledSplitWarning as UnlabeledSplitWarning
from jaxkd.data._randaugment import randaugment as randaugment
from jaxkd.data._range import doubts_about as doubts_about
from jaxkd.data._range import value_range as value_range
from jaxkd.data._read_pictures import find_pictures as find_pictures
from jaxkd.data._read_pictures import read_pictures as read_pictures
from jaxkd.data._split import Split as Split
from jaxkd.data._stream import ImageSource as ImageSource
from jaxkd.data._stream import Streamed as Streamed
from jaxkd.data._tfds import prepare as prepare
from jaxkd.data._unlabeled import with_unlabeled as with_unlabeled
