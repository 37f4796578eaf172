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

REMEDIES: Mapping[str, str] = {
    "unauthenticated": "give both sides the same token, as SIMBA_STUDENT_TOKEN",
    "permission_denied": "have the student, or what is in front of it, let this process in",
    "unimplemented": "the address must be that of a student; check it with `simba-actors conformance`",
    "failed_precondition": "update the older of the two",
    "invalid_argument": "if the program can't take these inputs, it must answer with OUTCOME_PROGRAM_FAILURE, which "
    "scores 0; otherwise check it with `simba-actors conformance`",
    "already_exists": "it confuses Runs, each of which has a key of its own",
}
"""What to do after a refusal."""


class StudentCallError(ClassifiedError):
    """A call to a remote student failed. The optimizer treats it as a failed LM call.

    `provider_code` is the code of the student's refusal; None if it did not answer, or not with a refusal.
    """


def error_of(refusal: Refusal, address: str) -> StudentCallError:
    """Return the error for a student's refusal."""
    failure_class = FAILURE_CLASSES.get(refusal.code, FailureClass.TRANSIENT)
    remedy = REMEDIES.get(refusal.code)
    message = f"{address} answered {refusal}" + (f" ({remedy})" if remedy else "")
    error = StudentCallError(message, failure_class, retry_after=refusal.retry_after)
    error.provider_code = refusal.code
    return error


def unusable(address: str, what: str) -> StudentCallError:
    """Return the error for an answer that can't be used, or for a missing one. The call may be made again."""
    return StudentCallError(f"{address} {what}", FailureClass.TRANSIENT)


def not_sent(address: str, why: str) -> StudentCallError:
    """Return the error for a request that can't be sent, because of what is in it."""
    error = StudentCallError(f"the request to {address} was not sent: {why}", FailureClass.REJECTED)
    error.provider_code = "invalid_argument"
    return error
