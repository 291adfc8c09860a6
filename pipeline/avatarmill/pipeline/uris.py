"""What a listed place says: its protocol, and the form of it that may be written down."""

import re
from urllib.parse import urlsplit, urlunsplit

from avatarmill.records.store import OBJECT_STORES

WEB = frozenset({"http", "https"})
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs", "file": "", "local": ""}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")
_SECRET = re.compile(
    r"(?i)(x-(amz|goog|ms|oss)-.*|awsaccesskeyid|googleaccessid|key-pair-id|policy|expires|"
    r"sig|sign|signature|hmac|token|.*[-_]token|secret|.*[-_]secret|password|passwd|pwd|auth|"
    r"authorization|credentials?|session|sessionid|api[-_]?key|access[-_]?key([-_]?id)?)"
)
"""Names of query fields that grant access: signed URLs of object stores and networks, tokens."""
_AZURE = re.compile(r"s[vertp]|sk[teosv]|skoid|sktid|sip|spr|srt|ss")
"""Fields that belong to a `sig`; alone they may mean anything."""


def protocol_of(uri: str) -> str:
    """Return the protocol of a listed place, "" for a local path.

    >>> protocol_of("gcs://bucket/a.mp4"), protocol_of("videos/a.mp4")
    ('gs', '')
    """
    found = _SCHEME.match(uri)
    if not found:
        return ""
    name = found[1].lower()
    return _SAME.get(name, name)


def is_remote(uri: str) -> bool:
    """Whether the place is no local path."""
    return bool(protocol_of(uri))


def can_fetch(protocol: str) -> bool:
    """Whether there is a way to the bytes."""
    return not protocol or protocol in WEB or protocol in OBJECT_STORES


def public_uri(uri: str) -> str:
    """Return the URI without what grants access: user, password, signatures, tokens, fragment.

    This form names a source in logs, tables and shards. It stays the same when a signed URL is
    signed anew, so a source is still known then.

    >>> public_uri("https://me:pw@host/a.mp4?id=7&X-Amz-Signature=0af&token=b")
    'https://host/a.mp4?id=7'
    """
    if not is_remote(uri):
        return uri
    parts = urlsplit(uri)
    fields = {field: field.partition("=")[0] for field in parts.query.split("&") if field}
    signed = "sig" in fields.values()
    query = "&".join(
        field
        for field, name in fields.items()
        if not (_SECRET.fullmatch(name) or (signed and _AZURE.fullmatch(name)))
    )
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, query, ""))
