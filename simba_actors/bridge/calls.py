"""Errors of calls to a student, and how each is handled."""

from __future__ import annotations

from collections.abc import Mapping

from simba_actors.lm.failures import ClassifiedError, FailureClass
from simba_actors.transport.refusals import Refusal

FAILURE_CLASSES: Mapping[str, FailureClass] = {
    "resource_exhausted": FailureClass.CROWDED,
    "unauthenticated": FailureClass.PERSISTENT,
    "permission_denied": FailureClass.PERSISTENT,
    "failed_precondition": FailureClass.PERSISTENT,
    "unimplemented": FailureClass.PERSISTENT,
    "invalid_argument": FailureClass.REJECTED,
    "already_exists": FailureClass.REJECTED,
    "not_found": FailureClass.REJECTED,
    "out_of_range": FailureClass.REJECTED,
}
"""The failure class of each refusal. After any other, the call is made again."""


class StudentCallError(ClassifiedError):
    """A call to a remote student failed. The optimizer treats it as a failed LM call.

    `provider_code` is the code of the student's refusal; None if it did not answer, or not with a refusal.
    """


def error_of(refusal: Refusal, address: str) -> StudentCallError:
    """Return the error for a student's refusal."""
    failure_class = FAILURE_CLASSES.get(refusal.code, FailureClass.TRANSIENT)
    error = StudentCallError(f"{address} answered {refusal}", failure_class, retry_after=refusal.retry_after)
    error.provider_code = refusal.code
    return error


def unusable(address: str, what: str) -> StudentCallError:
    """Return the error for an answer that can't be used, or for a missing one. The call may be made again."""
    return StudentCallError(f"{address} {what}", FailureClass.TRANSIENT)
