"""What a file is by its own bytes, read with plain Python before any native code sees it."""

import struct
from pathlib import Path
from typing import BinaryIO, Literal

from avatarmill.pipeline.regular import NotRegularError, open_regular
from avatarmill.pipeline.types import Reason, Reject

Container = Literal["iso", "matroska", "avi", "mpegts"]

_ISO_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_ISO_IMAGE_BRANDS = frozenset({b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"})
_MAX_BOXES = 100_000


def sniff(path: str | Path) -> Container | Reject:
    """The container family by magic bytes, after checks that need no decoder.

    Rejects empty files, everything outside the whitelist (texts, playlists and concat scripts
    whatever their name, images, pipes and devices), and ISO or AVI files whose own sizes reach past
    their end.
    """
    try:
        opened = open_regular(path)
    except NotRegularError as error:
        return Reject(Reason.FORBIDDEN_FORMAT, str(error), "probe")
    with opened as stream:
        head = stream.read(1024)
        size = stream.seek(0, 2)
        if not head:
            return Reject(Reason.EMPTY_FILE, "0 bytes", "probe")
        if head[4:8] in _ISO_FIRST_BOXES:
            return _iso(stream, head, size)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _avi(head, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    # 188-byte packets start with 0x47; m2ts puts four bytes of time code before each.
    if any(len(head) > s + p and head[s] == head[s + p] == 0x47 for s, p in ((0, 188), (4, 192))):
        return "mpegts"
    return Reject(
        Reason.FORBIDDEN_FORMAT,
        f"first bytes {head[:12]!r} are of no video container; allowed: ISO media, Matroska, AVI, "
        "MPEG-TS",
        "probe",
    )


def _iso(stream: BinaryIO, head: bytes, size: int) -> Container | Reject:
    """Walks the top-level boxes: the index must be there, index and data must lie in the file."""
    if head[4:8] == b"ftyp" and head[8:12] in _ISO_IMAGE_BRANDS:
        return Reject(Reason.FORBIDDEN_FORMAT, f"image file of brand {head[8:12]!r}", "probe")
    offset, seen = 0, set()
    for _ in range(_MAX_BOXES):
        stream.seek(offset)
        header = stream.read(16)
        if len(header) < 8:
            break
        length, kind = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack(">Q", header[8:])
        elif length == 0:
            length = size - offset
        if length < 8:
            break
        seen.add(kind)
        offset += length
        if offset > size and kind in (b"moov", b"mdat", b"moof"):
            missing = f"box {kind.decode()!r} ends at byte {offset}, the file at {size}"
            return Reject(Reason.TRUNCATED, missing, "probe")
    if b"moov" not in seen:
        return Reject(Reason.TRUNCATED, f"no index (box 'moov') in {size} bytes", "probe")
    return "iso"


def _avi(head: bytes, size: int) -> Container | Reject:
    (length,) = struct.unpack("<I", head[4:8])
    if length + 8 > size:
        return Reject(Reason.TRUNCATED, f"RIFF of {length + 8} bytes in a file of {size}", "probe")
    return "avi"
