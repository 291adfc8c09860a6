"""One attempt to fetch a source over http or https: checked addresses, redirects, ranges."""

import base64
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from avatarmill.pipeline.addresses import ForbiddenAddress, Network, check_address, resolve
from avatarmill.pipeline.partial import Partial, Passing, Refused
from avatarmill.pipeline.retry import retriable
from avatarmill.pipeline.types import Reason
from avatarmill.pipeline.uris import WEB

_BLOCK = 1 << 18
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 421, 425, 429, 500, 502, 503, 504})
_DENIED = frozenset({401, 402, 403, 407, 451})
_GONE = frozenset({404, 410})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What one attempt may do."""

    deadline: float
    """Of the whole source, on the monotonic clock."""
    stall_seconds: float
    max_redirects: int
    allowed: Sequence[Network]


def download(url: str, part: Partial, limits: WebLimits) -> None:
    """Fetch what `part` lacks of the bytes at `url`.

    Raises Refused, or Passing where another attempt makes sense; `part` keeps what came.
    """
    seen = 0
    while True:
        with _request(urlsplit(url), part, limits, trusted=seen == 0) as response:
            target = _redirect(url, response)
            if target is None:
                _receive(response, part, limits)
                return
        seen += 1
        if seen > limits.max_redirects:
            raise Refused(Reason.UNREACHABLE, f"{seen} redirects, limit {limits.max_redirects}")
        url = target


def _redirect(url: str, response: http.client.HTTPResponse) -> str | None:
    location = response.getheader("Location")
    if response.status not in _REDIRECTS or location is None:
        return None
    target = urljoin(url, location)
    if urlsplit(target).scheme not in WEB:
        raise Refused(Reason.FORBIDDEN_ADDRESS, "redirect to something that is not http or https")
    if url.startswith("https:") and not target.startswith("https:"):
        raise Refused(Reason.FORBIDDEN_ADDRESS, "redirect from https to http")
    return target


@contextmanager
def _request(
    url: SplitResult, part: Partial, limits: WebLimits, *, trusted: bool
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a GET. `trusted`: the listed URL itself, to which its password may go."""
    connection = _connection(url)
    host, port = connection.host, connection.port
    sock = _connect(url.scheme, host, port, limits)
    # Closed at the deadline, whatever the thread waits for: headers that drip have no timeout.
    watch = threading.Timer(max(0.0, limits.deadline - time.monotonic()), _hang_up, [sock])
    watch.daemon = True
    watch.start()
    try:
        connection.sock = sock
        target = quote(url.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = f"?{quote(url.query, safe='/%:@!$&()*+,;=~-._?')}" if url.query else ""
        connection.request("GET", target + query, headers=_headers(url, part, trusted))
        with connection.getresponse() as response:
            yield response
    except ssl.SSLError as error:
        raise Passing(f"TLS broke: {error.reason}") from error
    except http.client.IncompleteRead as error:
        raise Passing(f"the answer broke off at {part.progress}") from error
    except http.client.BadStatusLine as error:
        raise Passing("no answer") from error
    except http.client.HTTPException as error:
        raise Refused(Reason.UNREACHABLE, f"no http: {type(error).__name__}") from error
    except OSError as error:
        raise _network_error(error, part) from error
    finally:
        watch.cancel()
        connection.close()
        sock.close()


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    try:
        host, port = (url.hostname or "").encode("idna").decode(), url.port
        if not host:
            raise ValueError("no host")
        if url.scheme == "https":
            return http.client.HTTPSConnection(host, port or 443)
        return http.client.HTTPConnection(host, port or 80)
    except ValueError as error:
        raise Refused(Reason.UNREACHABLE, "the URL has no valid host and port") from error


def _connect(scheme: str, host: str, port: int, limits: WebLimits) -> socket.socket:
    """A socket to one of the host's addresses, each of them checked."""
    try:
        # Connected by address, so that a name server cannot give another one the second time.
        with ExitStack() as stack:
            sock = _first(resolve(host, port, limits.allowed), port, limits)
            stack.callback(sock.close)
            check_address(host, str(sock.getpeername()[0]), limits.allowed)
            if scheme == "https":
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            stack.pop_all()
        return sock
    except ForbiddenAddress as error:
        raise Refused(Reason.FORBIDDEN_ADDRESS, str(error)) from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise Passing(f"{host}: the name server does not answer") from error
        raise Refused(Reason.UNREACHABLE, f"{host}: no such host") from error
    except ssl.SSLCertVerificationError as error:
        raise Refused(Reason.UNREACHABLE, f"{host}: {error.verify_message}") from error
    except (ssl.SSLError, OSError) as error:
        # Nothing that goes wrong before the first byte says that the source is bad.
        raise Passing(f"{host}: {_words(error)}") from error


def _first(addresses: Sequence[str], port: int, limits: WebLimits) -> socket.socket:
    last: OSError = TimeoutError("no time left to connect")
    for address in addresses:
        left = min(limits.stall_seconds, limits.deadline - time.monotonic())
        if left <= 0:
            break
        try:
            sock = socket.create_connection((address, port), timeout=left)
            sock.settimeout(limits.stall_seconds)
            return sock
        except OSError as error:
            last = error
    raise last


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already


def _headers(url: SplitResult, part: Partial, trusted: bool) -> dict[str, str]:
    headers = {"User-Agent": "avatarmill", "Accept": "*/*", "Accept-Encoding": "identity"}
    if trusted and url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if part.size and part.validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    return headers


def _receive(response: http.client.HTTPResponse, part: Partial, limits: WebLimits) -> None:
    """Read the body of a final answer into `part`."""
    _check_status(response, part)
    if (coding := response.getheader("Content-Encoding", "identity")) != "identity":
        raise Refused(Reason.UNREACHABLE, f"content encoding {coding[:20]!r} was not asked for")
    if response.status == 206:
        start, total = _content_range(response)
        if start != part.size:
            part.reset()
            raise Passing(f"asked for bytes from {part.size} on, got {start}")
        part.expect(total)
    else:
        part.reset()
        part.expect(response.length)
        part.validator = _validator(response)
    while block := response.read1(_BLOCK):
        part.add(block)
        if time.monotonic() > limits.deadline:
            raise Passing("out of time")
    # Headers that break off look like an answer without length and body.
    cut = not part.size or time.monotonic() > limits.deadline
    if cut if part.total is None else part.size != part.total:
        raise Passing(f"the answer broke off at {part.progress}")


def _check_status(response: http.client.HTTPResponse, part: Partial) -> None:
    status = response.status
    words = f"status {status}"
    if status == 416:
        part.reset()
        raise Passing(words)
    if status in _PASSING:
        raise Passing(words, _retry_after(response))
    if status in _GONE:
        raise Refused(Reason.NOT_FOUND, words)
    if status in _DENIED:
        raise Refused(Reason.ACCESS_DENIED, words)
    if status not in (200, 206) or (status == 206 and not part.size):
        raise Refused(Reason.UNREACHABLE, words)


def _content_range(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    found = _RANGE.fullmatch(response.getheader("Content-Range", ""))
    if not found:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _validator(response: http.client.HTTPResponse) -> str:
    tag = response.getheader("ETag", "")
    # A weak tag may stay the same for other bytes.
    return tag if tag.startswith('"') else response.getheader("Last-Modified", "")


def _retry_after(response: http.client.HTTPResponse) -> float:
    words = response.getheader("Retry-After", "")
    return float(words) if re.fullmatch(r"\d{1,6}", words) else 0.0


def _network_error(error: OSError, part: Partial) -> Exception:
    named = isinstance(error, TimeoutError | ConnectionError) or retriable(error)
    return Passing(f"{_words(error)} at {part.progress}") if named else error


def _words(error: OSError) -> str:
    """What happened, without the text of the error: that may hold the URL."""
    return type(error).__name__ if error.errno is None else f"{error.strerror}"
