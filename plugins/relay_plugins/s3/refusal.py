"""What an error of obstore means for a delivery."""

import asyncio
import re
from typing import Final

from obstore import get_async
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from relay.api import Reject, Retry, Unauthorized

ANSWER: Final = re.compile(r"<Code>(.*?)</Code>(?:.*?<Message>(.*?)</Message>)?", re.DOTALL)
"""An error of S3 (AWS docs, S3 error responses)."""
WITHOUT_ANSWER: Final = re.compile(r"Error performing (\S+ \S+) in .*? - (.*)", re.DOTALL)
"""An error of obstore without an answer of S3: the request, and what has become of it."""
CAUSE: Final = re.compile(r'\b(?:message|error): "([^"]+)"|\b(InvalidCertificate|TimedOut)\b')
"""Why, in what obstore adds for debugging."""
NAMES: Final = {"InvalidCertificate": "the certificate of the store is not trusted", "TimedOut": "no answer in time"}
LASTING: Final = frozenset(
    {
        *("AuthorizationHeaderMalformed", "ExpiredToken", "InvalidBucketName", "InvalidToken", "MethodNotAllowed"),
        *("PermanentRedirect", "TokenRefreshRequired"),
    }
)
"""Codes with other statuses than 401, 403 and 404 that last until an admin changes something."""
CURES: Final = {"NoSuchBucket": "make the bucket, or check bucket, region and endpoint"}
METADATA: Final = "//169.254.169.254/"
"""Where a machine at AWS has its credentials: obstore asks there last, without other credentials."""
REDIRECTED: Final = re.compile(r"status code: 3\d\d|redirect without")
"""In the text of an error: the bucket is in another region, or endpoint is wrong. obstore follows no redirect."""
TOO_LARGE: Final = ("EntityTooLarge", "status code: 413")
WELL: Final = ("NoSuchKey", "AccessDenied")
"""What a store says of an object that is not there: the credentials are good, and may read or not."""
PROBE_S: Final = 5.0
LONGEST: Final = 300


async def check_bucket(store: S3Store, bucket: str, missing: str) -> None:
    """Ask for an object that is not there. Raises `Retry` or `Unauthorized` unless bucket and credentials are good.

    An answer to HEAD would not tell a bucket that is not there from an object that is not there.
    """
    try:
        async with asyncio.timeout(PROBE_S):
            await get_async(store, missing)
    except TimeoutError:
        raise Retry(f"bucket {bucket}: the store has not answered within {PROBE_S:g} s") from None
    except (BaseError, FileNotFoundError) as error:
        answer = ANSWER.search(str(error))
        if answer is None or answer[1] not in WELL:
            raise read_error(error, bucket) from None


def read_error(error: Exception, bucket: str) -> Retry | Reject | Unauthorized:
    """Return the outcome for an error of obstore."""
    text, _, debug = str(error).partition("\n\nDebug source")
    answer = ANSWER.search(text)
    code = answer[1] if answer else ""
    said = ": ".join(filter(None, answer.groups())) if answer else _explain(text, debug)
    said = f"bucket {bucket}: {'; '.join(filter(None, (said[:LONGEST], CURES.get(code))))}"
    if any(one in text for one in TOO_LARGE):
        return Reject(said, too_large=True)
    if REDIRECTED.search(text):
        return Unauthorized(f"bucket {bucket}: the store sends relay elsewhere; check region and endpoint")
    if METADATA in text:
        return Unauthorized(f"bucket {bucket}: no access_key is set, and this machine has no credentials")
    if isinstance(error, FileNotFoundError | PermissionDeniedError | UnauthenticatedError) or code in LASTING:
        return Unauthorized(said)
    return Retry(said)


def _explain(text: str, debug: str) -> str:
    """Return why there is no answer, and of which request."""
    found = WITHOUT_ANSWER.search(text)
    if found is None:
        return text.strip()
    causes = [NAMES.get(name, cause) for cause, name in CAUSE.findall(debug)]
    return f"{causes[-1] if causes else found[2].strip(' :')}: {found[1]}"
