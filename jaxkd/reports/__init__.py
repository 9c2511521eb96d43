"""Reports of one run and of many: pages, tables, figures, event files."""

from jaxkd.reports._improvement import (
    average_relative_improvement as average_relative_improvement,
)
