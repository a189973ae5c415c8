"""The S3 client: what the usual AWS variables and files say, patience while the server is away, errors with a remedy.

Endpoint (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL), region (AWS_REGION, AWS_DEFAULT_REGION), profile (AWS_PROFILE), CA
(AWS_CA_BUNDLE) and credentials (variables, files, IRSA's web identity, instance roles) are boto3's business alone. Ours
is the path style for an endpoint of one's own, which has no name for each bucket, and one signature over each body, so
that a server refuses a body that was damaged on its way even if it knows no other checksum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
import tenacity
from botocore import exceptions
from botocore.config import Config

from components.shared.store.manifest import StoreError

Result = TypeVar("Result")

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT, _READ_TIMEOUT = 5, 60  # seconds
_LONGEST_WAIT = 10.0  # seconds between two tries
_PASSING = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "RequestLimitExceeded"}
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch"}  # on its way: sent again

_CREDENTIALS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names"
_REMEDIES = {
    "SignatureDoesNotMatch": f"the secret key is wrong: {_CREDENTIALS}",
    "InvalidAccessKeyId": f"the access key is unknown to this server: {_CREDENTIALS}, and AWS_ENDPOINT_URL",
    "ExpiredToken": "the session token has expired: log in again, or renew the web identity token",
    "ExpiredTokenException": "the session token has expired: log in again, or renew the web identity token",
    "InvalidIdentityToken": "the web identity token is refused: check the role's trust policy and the service account",
    "AccessDenied": "these credentials may not do this: allow s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject",
    "NoSuchBucket": "there is no such bucket: create it, or correct the store's URI",
    "PermanentRedirect": "the bucket lies in another region: set AWS_REGION to it",
    "AuthorizationHeaderMalformed": "the region is wrong: set AWS_REGION to the bucket's",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}


def open_client(connections: int = 10) -> Any:
    """A boto3 client for S3 with that many connections. Raises StoreError if the AWS variables and files contradict."""
    try:
        session = boto3.session.Session()
        styles = dict(
            session._session.get_scoped_config().get("s3") or {}
        )  # the profile's own, such as addressing_style
        client = _client(session, styles, connections)
        if "addressing_style" not in styles and ".amazonaws.com" not in client.meta.endpoint_url:
            client = _client(session, {**styles, "addressing_style": "path"}, connections)
        return client
    except (exceptions.BotoCoreError, ValueError) as error:
        raise StoreError(
            f"S3: {error}; correct the AWS variables (AWS_PROFILE, AWS_ENDPOINT_URL, AWS_REGION)"
        ) from error


def _client(session: Any, s3: dict[str, Any], connections: int) -> Any:
    config = Config(
        s3={**s3, "payload_signing_enabled": True},
        max_pool_connections=connections,
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard"},  # how often is AWS_MAX_ATTEMPTS; a longer outage is `patiently`'s business
    )
    return session.client("s3", config=config)


def patiently(action: Callable[[], Result], what: str, seconds: float) -> Result:
    """The action's result. While the server does not answer it is tried again, with a growing wait, for `seconds`.

    Every wait above a second is logged. Raises StoreError, naming `what` and the remedy, for what will not pass.
    """

    def tell(state: tenacity.RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0.0
        if wait > 1 and state.outcome is not None:
            log.warning(
                "%s: S3 does not answer (%s): trying again in %.0f s, for %.0f s more",
                what, _brief(state.outcome.exception()), wait, max(0.0, seconds - (state.seconds_since_start or 0.0)),
            )  # fmt: skip

    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=_LONGEST_WAIT - 1, jitter=1),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return again(action)
    except exceptions.ClientError as error:
        raise StoreError(f"{what}: {_explain(error)}") from error
    except (exceptions.BotoCoreError, ConnectionError, TimeoutError) as error:
        raise StoreError(f"{what}: {_explain_connection(error)}") from error


def may_pass(error: BaseException) -> bool:
    """Whether an error may be gone in a moment: the server is away, busy, or broke a transfer off."""
    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 and code_of(error) != "NotImplemented" or code_of(error) in _PASSING | _DAMAGED
    if isinstance(error, exceptions.SSLError | exceptions.ProxyConnectionError):
        return False
    return isinstance(
        error,
        exceptions.ConnectionError  # its children: no connection, connection lost, timeouts
        | exceptions.HTTPClientError
        | exceptions.IncompleteReadError
        | exceptions.ResponseStreamingError
        | exceptions.FlexibleChecksumError  # damaged on its way
        | ConnectionError
        | TimeoutError,
    )


def code_of(error: exceptions.ClientError) -> str:
    """S3's error code, such as NoSuchKey; the HTTP status where the server sends none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _explain(error: exceptions.ClientError) -> str:
    code = code_of(error)
    remedy = _REMEDIES.get({"403": "AccessDenied"}.get(code, code))
    return f"{code}: {remedy}" if remedy else str(error)


def _explain_connection(error: Exception) -> str:
    text = _brief(error)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return f"{text}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a web identity"
    if isinstance(error, exceptions.SSLError):
        return f"{text}: the certificate is not trusted: set AWS_CA_BUNDLE to its CA's file"
    if may_pass(error):
        return f"{text}: the server cannot be reached: check AWS_ENDPOINT_URL and the network, then rerun"
    return f"{text}: check the AWS variables and files"


def _brief(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
