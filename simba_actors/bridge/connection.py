"""The optimizer's connection to a student: its addresses, and a client for each."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, urlsplit

import orjson
from pydantic import ValidationError

from simba_actors.bridge.calls import StudentCallError, not_sent, unusable
from simba_actors.bridge.messages import (
    LARGEST_MESSAGE,
    CancelReply,
    CancelRequest,
    DescribeRequest,
    Description,
    Message,
    Object,
    RunReply,
    RunRequest,
)
from simba_actors.errors import ConfigError
from simba_actors.lm.failures import FailureClass
from simba_actors.lm.secrets import Secrets
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.threads import Threads
from simba_actors.transport.security import TLS, check_token, is_loopback

TOKEN_VARIABLE = "SIMBA_STUDENT_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the token of students, on both sides."""

GRACE_SECONDS = 5.0
"""Seconds that a reply may be late. The student ends a Run in time, but its answer takes a moment to arrive."""

CANCEL_SECONDS = 5.0
"""Maximum seconds of a Cancel."""

REST_SECONDS = 5.0
"""Seconds for which an unreachable address is skipped if there are others."""

SCHEMES = ("http", "https", "grpc", "grpcs")

M = TypeVar("M", bound=Message)


class StudentClient(Protocol):
    """Client for one address. Thread-safe."""

    def call(self, method: str, message: Object | bytes, seconds: float) -> Any:
        """Send a message and return the answer as JSON. Blocks for up to `seconds`. Bytes are sent as they are.

        Raises:
            StudentCallError: There is no answer, or it is a refusal.
        """
        ...

    def forget(self) -> None:
        """Forget open connections, because this is a forked child."""
        ...


class Address:
    """One address of a student, with the number of its Runs and when it can be used again."""

    def __init__(self, address: str, client: StudentClient, secrets: Secrets) -> None:
        self.address = address
        self._secrets = secrets
        self.client = client
        self.in_flight = 0
        self.rests_until = 0.0

    def ask(self, method: str, request: Message, reply: type[M], seconds: float) -> M:
        """Return the answer to a call as a message of type `reply`. Raise StudentCallError if there is none."""
        message = request.to_json()
        if len(orjson.dumps(message)) > LARGEST_MESSAGE:
            raise not_sent(
                self.address, f"it has more than {LARGEST_MESSAGE:,} bytes: shorten the example, or allow fewer demos"
            )
        try:
            answer = self.client.call(method, message, seconds)
        except StudentCallError as error:
            self._secrets.redact(error)
            raise
        try:
            return reply.from_json(answer)
        except (ValidationError, RecursionError) as error:
            raise unusable(
                self.address, f"answered {method} with something other than a reply: {_shown(error)}"
            ) from None


class Connection:
    """Reaches a student at one or several addresses. All copies of a `RemoteStudent` share one. Thread-safe.

    Each Run goes to the address with the fewest Runs in progress. An unreachable address is skipped for a while if
    there is another.

    Raises:
        ConfigError: An address or the token is not valid, or the token would travel in the clear.
    """

    def __init__(
        self, addresses: Sequence[str], *, token: str | None = None, tls: TLS | None = None, timeout: float = 300.0
    ) -> None:
        if not addresses:
            raise ConfigError("RemoteStudent: there must be at least one address, such as 'http://127.0.0.1:7000'")
        self.timeout = timeout
        self.threads = Threads()
        self._made_with = tuple(addresses), tls, timeout
        token = token or os.environ.get(TOKEN_VARIABLE) or None
        check_token(token)
        self.secrets = Secrets()
        """Hides the token, which a student may repeat in an error message."""
        if token is not None:
            self.secrets.add(token)
        self._addresses = [Address(address, _client(address, token, tls), self.secrets) for address in addresses]
        self._lock = threading.Lock()
        survive_forks(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Connection:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the token out: the other process has its own in its environment."""
        addresses, tls, timeout = self._made_with
        return partial(Connection, tls=tls, timeout=timeout), (addresses,)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._made_with[0]

    @property
    def first_client(self) -> StudentClient:
        """The client for the first address."""
        return self._addresses[0].client

    def describe(self, majors: Sequence[int], seconds: float) -> Description:
        """Return the description from the first address that answers. Raise the last StudentCallError if none does."""
        request = DescribeRequest(majors=list(majors))
        for address in self._addresses[:-1]:
            try:
                return address.ask("Describe", request, Description, seconds)
            except StudentCallError as error:
                if error.failure_class is not FailureClass.TRANSIENT:
                    raise
        return self._addresses[-1].ask("Describe", request, Description, seconds)

    @contextmanager
    def chosen_address(self) -> Generator[Address]:
        """Yield the address with the fewest Runs. Count the block as one, and note whether the address answers."""
        with self._lock:
            now = time.monotonic()
            address = min(self._addresses, key=lambda each: (max(0.0, each.rests_until - now), each.in_flight))
            address.in_flight += 1
        try:
            yield address
        except StudentCallError as error:
            if error.failure_class is FailureClass.TRANSIENT:
                address.rests_until = time.monotonic() + REST_SECONDS
            raise
        finally:
            with self._lock:
                address.in_flight -= 1

    def before_fork(self) -> None:
        """Do nothing: connections are opened for each call."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Replace the lock, and forget what is under way in the parent."""
        self._lock = threading.Lock()
        for address in self._addresses:
            address.in_flight = 0
            address.client.forget()


class RemoteRun:
    """One Run at one address, which is chosen when the Run is sent."""

    def __init__(self, connection: Connection, request: RunRequest) -> None:
        self._connection = connection
        self._request = request
        self._address: Address | None = None
        self._cancelled = False

    def send(self) -> RunReply:
        """Send the request and wait for the reply. Raise StudentCallError if there is none."""
        request = self._request
        with self._connection.chosen_address() as address:
            self._address = address
            if self._cancelled:
                raise RuntimeError("the Run was cancelled before it was sent")
            reply = address.ask("Run", request, RunReply, request.timeout_seconds + GRACE_SECONDS)
            if reply.key != request.key:
                raise unusable(address.address, f"answered with the reply of another Run: its key is {reply.key!r:.80}")
            if reply.failure is None:
                return reply
            message = self._connection.secrets.hide(reply.failure.message)
            return reply.model_copy(update={"failure": reply.failure.model_copy(update={"message": message})})

    def cancel(self) -> None:
        """Tell the student, in a thread, that the reply is not needed any more."""
        self._cancelled = True
        address = self._address
        if address is None:
            return
        with suppress(RuntimeError):  # The process ends, or has no thread left. Then the Run ends at its deadline.
            self._connection.threads.start(lambda: self._cancel(address))

    def _cancel(self, address: Address) -> None:
        try:
            address.ask("Cancel", CancelRequest(key=self._request.key), CancelReply, CANCEL_SECONDS)
        except StudentCallError:
            return  # The Run ends at its deadline.


def _client(address: str, token: str | None, tls: TLS | None) -> StudentClient:
    parts = _checked(address, token)
    if parts.scheme in ("grpc", "grpcs"):
        try:
            from simba_actors.bridge.grpc_client import GRPCClient
        except ImportError as error:
            raise ConfigError(
                f"RemoteStudent: {address!r:.200} needs the extra `grpc` ({error}): pip install 'simba_actors[grpc]'"
            ) from error
        return GRPCClient(parts, token, tls)
    from simba_actors.bridge.http_client import HTTPClient

    return HTTPClient(parts, token, tls)


def _checked(address: Any, token: str | None) -> SplitResult:
    if not isinstance(address, str):
        raise ConfigError(f"RemoteStudent: an address must be a string, not {type(address).__name__}")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"RemoteStudent: {address!r:.200} is not an address: {error}") from None
    if parts.scheme not in SCHEMES or not host:
        raise ConfigError(
            f"RemoteStudent: {address!r:.200} is not an address of a student: it must begin with "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)} and have a host"
        )
    if parts.scheme.startswith("grpc") and port is None:
        raise ConfigError(f"RemoteStudent: {address!r:.200} must have a port, as in grpc://{host}:7001")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(f"RemoteStudent: the address of {host} must have no user, query or fragment; use token=…")
    if token is not None and parts.scheme in ("http", "grpc") and not is_loopback(host):
        raise ConfigError(
            f"RemoteStudent: a token must not travel in the clear to {address!r:.200}: use https:// or grpcs://"
        )
    return parts


def run_key() -> str:
    """Return a new key for a Run."""
    return uuid.uuid4().hex


def _shown(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}"[:500]
