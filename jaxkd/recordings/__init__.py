"""Recorded outputs of a teacher, from which students train without the teacher."""

from jaxkd.recordings._not_recorded import NotRecorded as NotRecorded
from jaxkd.recordings._recording import Recording as Recording
from jaxkd.recordings._recording import open as open
from jaxkd.recordings._views import Views as Views
from jaxkd.recordings._writer import Writer as Writer
from jaxkd.recordings._writer import create as create
