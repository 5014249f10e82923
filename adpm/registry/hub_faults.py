"""What the Hub's library raises, as adpm's errors: one for each cause, with the way out."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from huggingface_hub import errors

from adpm.errors import AdpmError, LoginNeededError, NetworkError, NotFoundError, RegistryError
from adpm.net.faults import TransientError, retry_after

__all__ = ["TRANSIENT", "Asked", "LibraryError", "RefusedError", "status_of"]

TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})


def _transport() -> type[Exception]:
    """What all errors of the HTTP client that the library uses are: another client in each of its major versions."""
    own = [cls for cls in errors.HfHubHTTPError.__mro__ if issubclass(cls, Exception) and cls is not Exception]
    return [cls for cls in own if cls is not OSError][-1]


class RefusedError(Exception):
    """An answer that is worth another try: raised in place of the library's own, unbounded waiting."""

    def __init__(self, response: Any) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


# RuntimeError is what the library makes of a failed upload; the last three are what it runs into where an answer is not
# what it should be.
LibraryError: Final = (
    _transport(),
    OSError,
    RefusedError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a refusal, if it is one."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for: ``repository`` (or an owner) at ``endpoint``, with a token or without."""

    endpoint: str
    repository: str
    logged_in: bool

    def error(self, error: BaseException) -> AdpmError | TransientError:
        """What the library's ``error`` means."""
        if isinstance(error, (errors.LocalEntryNotFoundError, RuntimeError)) and error.__cause__ is not None:
            return self.error(error.__cause__)
        if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
            return NetworkError(
                "offline",
                f"what is wanted of {self.repository} is not in the Hub's cache on this machine",
                cause="HF_HUB_OFFLINE forbids to ask for it",
                hint="run the command once without HF_HUB_OFFLINE",
            )
        if status_of(error) is not None:
            return self._refused(error)
        said = str(error).splitlines()[0] if str(error) else "no more is known"
        if isinstance(error, (LookupError, TypeError, AttributeError)):
            return self._failed(f"its answer is not what a Hub says ({type(error).__name__}: {said})")
        if not isinstance(error, LibraryError[0]):
            return self._failed(said)
        return TransientError(
            NetworkError(
                "network-failed",
                f"could not talk to the Hub at {self.endpoint}",
                cause=f"{self.repository}: {type(error).__name__}: {said}",
                hint="check HF_ENDPOINT and your network; the same command can be run again",
            )
        )

    def _refused(self, error: BaseException) -> AdpmError | TransientError:
        status = status_of(error)
        if isinstance(error, errors.GatedRepoError):  # which the library takes for a kind of the next
            return self._gated()
        other = isinstance(error, (errors.RevisionNotFoundError, errors.EntryNotFoundError))
        if isinstance(error, errors.RepositoryNotFoundError) or (status == HTTPStatus.NOT_FOUND and not other):
            return self.missing()  # some Hubs do not say what it is that they don't find
        if status == HTTPStatus.UNAUTHORIZED:
            return LoginNeededError(
                "login-needed",
                f"the Hub at {self.endpoint} "
                + ("does not take the token that was sent" if self.logged_in else "asks for a login"),
                cause=f"{self.repository}: {_said(error)}",
                hint="make a token on your account's page there, and set HF_TOKEN or run 'hf auth login'",
            )
        if status == HTTPStatus.FORBIDDEN:
            return LoginNeededError(
                "access-denied",
                f"this account may not do that with {self.repository} at {self.endpoint}",
                cause=_said(error),
                hint="use the token of an account that may (HF_TOKEN), and for publishing one with the right to write",
            )
        if other:
            return NotFoundError(
                "revision-not-found",
                f"{self.repository} at {self.endpoint} does not have that",
                cause=_said(error),
                hint="check the branch, tag or commit that is asked for",
            )
        return self._busy(error) if status in TRANSIENT else self._failed(_said(error))

    def _busy(self, error: BaseException) -> TransientError:
        response: Any = getattr(error, "response", None)
        pause = retry_after(response.headers.get("Retry-After", ""))
        limited = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        later = "later" if pause is None else f"in {pause:.0f} seconds"
        more = "; with a token (HF_TOKEN) more is allowed" if limited and not self.logged_in else ""
        return TransientError(
            NetworkError(
                "http-status",
                f"the Hub at {self.endpoint} " + ("was asked too much" if limited else "could not answer"),
                cause=f"{self.repository}: {_said(error)}",
                hint=f"run the command again {later}{more}",
                status=response.status_code,
            ),
            pause,
        )

    def _failed(self, cause: str) -> RegistryError:
        return RegistryError(
            "registry-failed",
            f"the Hub at {self.endpoint} could not be used",
            cause=f"{self.repository}: {cause}",
            hint="check that HF_ENDPOINT is a Hub, and that the Hub's cache (HF_HOME) can be written to",
        )

    def missing(self) -> NotFoundError:
        """The Hub says the same of what is private, so as not to tell."""
        if self.logged_in:
            cause, hint = "it does not exist, or this token may not see it", "check the spelling and HF_TOKEN"
        else:
            cause = "it does not exist, or is private: without a token the Hub does not tell"
            hint = "check the spelling; for what is private set HF_TOKEN or run 'hf auth login'"
        return NotFoundError(
            "package-not-found",
            f"the Hub at {self.endpoint} shows no {self.repository}",
            cause=cause,
            hint=hint,
            repository=self.repository,
        )

    def _gated(self) -> LoginNeededError:
        page = f"{self.endpoint}/{self.repository}"
        if not self.logged_in:
            return LoginNeededError(
                "login-needed",
                f"{self.repository} is gated: its owner lets in whom he knows",
                cause="no token was sent",
                hint=f"ask for access at {page}, then set HF_TOKEN or run 'hf auth login'",
            )
        return LoginNeededError(
            "access-denied",
            f"{self.repository} is gated, and this account was not let in",
            hint=f"ask for access at {page}; a fine-grained token needs the right to read gated repositories, too",
        )


def _said(error: BaseException) -> str:
    """The Hub's own words, in one line."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    words = headers.get("X-Error-Message") or getattr(error, "server_message", None) or ""
    return f"HTTP {status_of(error)}" + (f", {' '.join(str(words).split())[:300]}" if words else "")
