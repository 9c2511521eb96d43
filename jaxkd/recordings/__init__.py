"""Recorded outputs of a teacher, from which students train without the teacher.

To read how a recording is made, start at ``_create``, which returns a ``_writer``; its
files are written by ``_epoch`` in the stored form of ``_codec`` and listed in
``_manifest``. ``_recording`` reads them (with ``_files``), and ``_check`` compares them
with a training run.
"""

from jaxkd.recordings._create import create as create
from jaxkd.recordings._ensemble import Ensemble as Ensemble
from jaxkd.recordings._ensemble import ensemble as ensemble
from jaxkd.recordings._not_recorded import NotRecorded as NotRecorded
from jaxkd.recordings._recording import Recording as Recording
from jaxkd.recordings._recording import open as open
from jaxkd.recordings._size import describe_size as describe_size
from jaxkd.recordings._size import size as size
from jaxkd.recordings._views import Views as Views
from jaxkd.recordings._write import write as write
from jaxkd.recordings._writer import Writer as Writer
