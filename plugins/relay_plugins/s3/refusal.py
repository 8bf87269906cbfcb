"""What an error of obstore means for a delivery."""

import re
from typing import Final

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from relay.api import Reject, Retry, Unauthorized

ANSWER: Final = re.compile(r"<Code>(.*?)</Code>(?:.*?<Message>(.*?)</Message>)?", re.DOTALL)
"""An error of S3 (AWS docs, S3 error responses)."""
LASTING: Final = frozenset(
    {
        *("AuthorizationHeaderMalformed", "ExpiredToken", "InvalidBucketName", "InvalidToken", "MethodNotAllowed"),
        *("PermanentRedirect", "TokenRefreshRequired"),
    }
)
"""Codes with other statuses than 401, 403 and 404 that last until an admin changes something."""
REDIRECTED: Final = "redirect"
"""In the text of an error without an answer of the store: the bucket is in another region, or endpoint is wrong."""
TOO_LARGE: Final = ("EntityTooLarge", "status code: 413")
LONGEST: Final = 300


def read_error(error: Exception, bucket: str) -> Retry | Reject | Unauthorized:
    """Return the outcome for an error of obstore."""
    text = str(error).partition("\n\nDebug source")[0]
    answer = ANSWER.search(text)
    code = answer[1] if answer else ""
    said = ": ".join(filter(None, answer.groups())) if answer else text.strip()
    said = f"bucket {bucket}: {said[:LONGEST]}"
    if any(one in text for one in TOO_LARGE):
        return Reject(said, too_large=True)
    if REDIRECTED in text:
        return Unauthorized(f"bucket {bucket}: the store sends relay elsewhere; check region and endpoint")
    if isinstance(error, FileNotFoundError | PermissionDeniedError | UnauthenticatedError) or code in LASTING:
        return Unauthorized(said)
    return Retry(said)
