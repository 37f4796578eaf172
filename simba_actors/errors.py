"""Every error that a user of simba_actors can meet.

SimbaError
├── ConfigError              an OptimizerConfig that cannot run
├── StudentError             a student that cannot be optimized
├── StoreError               the database file cannot be used
├── RunError                 a run cannot start, go on or end as asked
├── MetricError              the metric raised, or returned what is no score
└── InfrastructureError      an LM could not be reached; never a score
"""

from __future__ import annotations


class SimbaError(Exception):
    """Base of every error raised by simba_actors."""


class ConfigError(SimbaError, ValueError):
    """A setting is missing, out of range, or does not fit the others. The message names it and what it may be."""


class StudentError(SimbaError, ValueError):
    """The student cannot be optimized, or a configuration does not fit it. The message names the predictor."""


class NoPredictorsError(StudentError):
    """The student has no predictors."""


class MisfitError(StudentError):
    """A configuration does not fit the student. The message names the predictor or variable."""


class NotJSONError(StudentError):
    """A value of a configuration is not plain JSON."""


class StoreError(SimbaError):
    """The store's file cannot be opened, read or written. The message names the file, the cause and the remedy."""


class RunError(SimbaError):
    """A run cannot start, go on or end as asked."""


class MetricError(SimbaError):
    """The metric raised, or returned something that is no number. The cause, if any, is chained."""


class InfrastructureError(SimbaError):
    """An LM could not be reached, refused the request for now, or did not answer in time. Never counts as a score."""
