"""The token record: one person's latent tokens, how well each was seen, and the words for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avatarmill.records.canonical import jpeg_array, jpeg_bytes, npy_bytes, rounded
from avatarmill.records.index import LOCATION_FIELDS, SCORES, Record, sorted_items
from avatarmill.records.jsonfields import mapping_of, number, read_fields, text, to_json
from avatarmill.records.members import array_member, check_array, check_members
from avatarmill.records.tarshard import Members, ShardError, check_key

FORMAT = "avatarmill-token-1"
LATENT_CHANNELS = 8
NUM_SHAPE = 20
FACE_SIDE = 128

TOKEN_INDEX = pa.schema(
    [
        *LOCATION_FIELDS,
        pa.field("clip_key", pa.string()),
        pa.field("num_tokens", pa.int32()),
        pa.field("visible_fraction", pa.float64()),
        pa.field("source_sha256", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("scores", SCORES),
        pa.field("fingerprint", pa.string()),
    ]
)

MEMBERS = frozenset({"json", "latent.npy", "visibility.npy", "shape.npy"})
FACE_MEMBER = "face.jpg"


@dataclass(frozen=True, slots=True)
class TokenMeta:
    """Words and provenance of one token sample."""

    clip_key: str
    source_sha256: str
    licence: str
    tokenizer: str
    """Fingerprint of the tokenizer: weights, body and anchors."""
    captions: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    visibility_rule: str = ""
    """What a visibility score counts; empty in samples made before it was recorded."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenSample:
    """The latent of one clip."""

    key: str
    latent: NDArray[np.float16]
    """[T, 8], one row an anchor."""
    visibility: NDArray[np.uint8]
    """[T] 0..255: a score, so that the threshold stays a choice of the training run."""
    shape: NDArray[np.float32]
    """[20] body shape."""
    meta: TokenMeta
    face_crop: NDArray[np.uint8] | None = None
    """[128, 128, 3] sRGB, where a face was seen."""

    def __post_init__(self) -> None:
        check_key(self.key)
        check_array("latent", self.latent, np.float16, (None, LATENT_CHANNELS))
        check_array("visibility", self.visibility, np.uint8, (len(self.latent),))
        check_array("shape", self.shape, np.float32, (NUM_SHAPE,))
        if self.face_crop is not None:
            check_array("face_crop", self.face_crop, np.uint8, (FACE_SIDE, FACE_SIDE, 3))

    def __repr__(self) -> str:
        return f"TokenSample({self.key}, {len(self.latent)} tokens, {self.visible_fraction:.2f})"

    @property
    def visible_fraction(self) -> float:
        """Share of tokens with a score of at least 128."""
        return float(np.mean(self.visibility >= 128)) if len(self.visibility) else 0.0


def token_to_members(sample: TokenSample) -> Members:
    """Encode a token sample."""
    members = {
        "json": to_json(sample.meta),
        "latent.npy": npy_bytes(sample.latent),
        "visibility.npy": npy_bytes(sample.visibility),
        "shape.npy": npy_bytes(rounded(sample.shape, 6)),
    }
    if sample.face_crop is not None:
        members[FACE_MEMBER] = jpeg_bytes(sample.face_crop)
    return members


def token_from_members(key: str, members: Mapping[str, bytes]) -> TokenSample:
    """Decode a token sample. Raises ShardError for unknown, missing or malformed members."""
    optional = frozenset({FACE_MEMBER} & members.keys())
    check_members(key, members, MEMBERS | optional)
    try:
        return TokenSample(
            key=key,
            latent=array_member(members, "latent.npy", np.float16),
            visibility=array_member(members, "visibility.npy", np.uint8),
            shape=array_member(members, "shape.npy", np.float32),
            face_crop=jpeg_array(members[FACE_MEMBER]) if optional else None,
            meta=token_meta(members["json"]),
        )
    except ValueError as error:
        raise ShardError(f"token sample {key}: {error}") from error


def token_meta(data: bytes) -> TokenMeta:
    """Decode the JSON member of a token sample. Raises ShardError for unknown fields."""
    fields = read_fields(
        data,
        "token json",
        {
            "clip_key": text,
            "source_sha256": text,
            "licence": text,
            "tokenizer": text,
            "captions": mapping_of(text),
            "attributes": mapping_of(text),
            "scores": mapping_of(number),
        },
        later={"visibility_rule": text},
    )
    return TokenMeta(**fields)


def token_record(sample: TokenSample) -> Record:
    """Return the members and the index row of a token sample, ready for a group."""
    members = token_to_members(sample)
    # From the bytes, so that the index shows the rounded numbers that a reader will see.
    meta = token_meta(members["json"])
    row = {
        "clip_key": meta.clip_key,
        "num_tokens": len(sample.latent),
        "visible_fraction": round(sample.visible_fraction, 6),
        "source_sha256": meta.source_sha256,
        "licence": meta.licence,
        "caption": meta.captions.get("short", ""),
        "scores": sorted_items(meta.scores),
        "fingerprint": meta.tokenizer,
    }
    return Record(sample.key, members, row)
