"""The tokenizer as everybody uses it: frames to a token set, a token set to a posable avatar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avatarmill.avatar.anchors import Anchors, load_anchors
from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.records.fingerprint import fingerprint, sha256_file
from avatarmill.tokenize.compressor import Compressor
from avatarmill.tokenize.config import CompressorConfig, ReconstructorConfig, TokenizerConfig
from avatarmill.tokenize.features import prepare
from avatarmill.tokenize.frames import ReferenceFrames
from avatarmill.tokenize.local import LocalGaussians, apply_offsets, place, pose
from avatarmill.tokenize.reconstructor import Reconstructor
from avatarmill.tokenize.sites import Sites
from avatarmill.tokenize.visibility import accumulate

FORMAT = "avatarmill-tokenizer-1"
NANO_WEIGHTS = Path(__file__).with_name("weights") / "nano.safetensors"
LATENT_LIMIT = 12.0
"""Latents are of unit variance; values beyond this are noise of the encoder, and are clipped."""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """One person as the diffusion model sees them."""

    latent: Tensor
    """[T, 8] float16, each channel of zero mean and unit variance over the training set."""
    visibility: Tensor
    """[T] uint8, how well the references saw each token."""
    shape: Tensor
    """[20] float32 body shape."""


@dataclass(frozen=True, slots=True)
class CanonicalAvatar:
    """A person ready to be posed: transformer and canonical decoder have run, once."""

    tokens: Tensor
    """[T, D] geometry tokens."""
    local: LocalGaussians
    """[P] canonical Gaussians in their sites' frames."""
    shape: Tensor
    """[20]."""
    tokenizer: Tokenizer

    def rest(self) -> Gaussians:
        """The avatar in T-pose with a neutral face, without pose-dependent offsets."""
        tokenizer = self.tokenizer
        vertices, _ = tokenizer.body.rest(self.shape, torch.zeros(52))
        return place(self.local, tokenizer.sites, vertices)

    @torch.no_grad()
    def pose(self, params: BodyParams, *, with_offsets: bool = True) -> Gaussians:
        """The avatar in one unbatched pose; the avatar's own shape replaces that of params.

        Args:
            with_offsets: False leaves the pose decoder out, for comparisons.
        """
        params = replace(params, shape=self.shape)
        local = self.local
        if with_offsets:
            change = self.tokenizer.reconstructor.pose_offsets(self.tokens[None], _batch_of(params))
            local = apply_offsets(local, change[0])
        return pose(local, self.tokenizer.sites, self.tokenizer.body, params)


def _batch_of(params: BodyParams) -> BodyParams:
    return BodyParams(*(getattr(params, field.name)[None] for field in fields(BodyParams)))


class Tokenizer:
    """Reconstructor and compressor with the body and anchors they were trained on."""

    def __init__(
        self,
        config: TokenizerConfig,
        body: Body,
        anchors: Anchors,
        image_encoder: nn.Module | None = None,
    ) -> None:
        """Build with random weights; `load` reads trained ones."""
        self.config = config
        self.body = body.eval()
        self.anchors = anchors
        self.sites = Sites.around(body, anchors, config.reconstructor.gaussians_per_token)
        self.reconstructor = Reconstructor(
            config.reconstructor, anchors, self.sites, image_encoder
        ).eval()
        self.compressor = Compressor(
            config.compressor, config.reconstructor.num_tokens, config.reconstructor.width
        ).eval()
        self.metadata: dict[str, str] = {}
        self.fingerprint = "untrained"

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        body: Body | None = None,
        image_encoder: nn.Module | None = None,
    ) -> Tokenizer:
        """Read trained weights; None means the nano weights in the package.

        Raises:
            ValueError: the file is missing, not a tokenizer's, or was trained on another body
                or other anchors. The message names the command that makes a matching one.
        """
        path = NANO_WEIGHTS if path is None else path
        metadata = read_metadata(path)
        config = _config_from(metadata)
        body = load_body() if body is None else body
        anchors = load_anchors(body, count=config.reconstructor.num_tokens)
        present = {"body": body.fingerprint, "anchors": anchors_fingerprint(anchors)}
        _check_fingerprints(path, metadata, present)
        tokenizer = cls(config, body, anchors, image_encoder)
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        _load(tokenizer.reconstructor, "reconstructor.", state)
        _load(tokenizer.compressor, "compressor.", state)
        tokenizer.metadata = metadata
        tokenizer.fingerprint = fingerprint([FORMAT, sha256_file(path)])
        return tokenizer

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write weights as float16 safetensors with configuration, fingerprints and `facts`.

        Facts say how the weights were made: seed, steps, seconds, recipe. A frozen image
        encoder is not written; it is not ours.
        """
        modules = {"reconstructor.": self.reconstructor, "compressor.": self.compressor}
        frozen = self.config.reconstructor.image_encoder == "frozen"
        tensors = {
            prefix + name: tensor.detach().half().contiguous()
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
            if not (frozen and name.startswith("image_encoder."))
        }
        metadata = {
            "format": FORMAT,
            "config": json.dumps(asdict(self.config), sort_keys=True),
            "body": self.body.fingerprint,
            "anchors": anchors_fingerprint(self.anchors),
            **facts,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(0o644)
        partial.rename(path)

    @torch.no_grad()
    def tokens(self, frames: ReferenceFrames) -> tuple[Tensor, Tensor]:
        """Uncompressed tokens [T, D] and visibility [T] uint8 of one person's references."""
        config = self.config.reconstructor
        inputs = prepare(
            frames,
            self.body,
            self.anchors,
            self.sites,
            image_size=config.image_size,
            face_size=config.face_size,
        )
        return self.reconstructor(inputs)[0], accumulate(inputs.visibility[0])

    @torch.no_grad()
    def encode(self, frames: ReferenceFrames) -> TokenSet:
        """References of one person to the token set that is stored and diffused."""
        tokens, visibility = self.tokens(frames)
        latent = self.compressor.encode(tokens).clamp(-LATENT_LIMIT, LATENT_LIMIT)
        return TokenSet(latent.half(), visibility, frames.params.shape[0].clone())

    @torch.no_grad()
    def decode(self, latent: Tensor, shape: Tensor | None = None) -> CanonicalAvatar:
        """Latents [T, 8] to an avatar of a body shape [20], the average one when None.

        Raises ValueError when the latents are not of this tokenizer's size.
        """
        config = self.config
        wanted = (config.reconstructor.num_tokens, config.compressor.channels)
        if tuple(latent.shape) != wanted:
            raise ValueError(
                f"latent is {list(latent.shape)}, this tokenizer ({config.name}) decodes "
                f"{list(wanted)}; decode with the tokenizer whose fingerprint the sample names"
            )
        return self.avatar(self.compressor.decode(latent.float()), shape)

    @torch.no_grad()
    def avatar(self, tokens: Tensor, shape: Tensor | None = None) -> CanonicalAvatar:
        """Uncompressed tokens [T, D] to an avatar: `decode` without the compressor."""
        shape = torch.zeros(20) if shape is None else shape.float()
        return CanonicalAvatar(tokens, self.reconstructor.decode(tokens[None])[0], shape, self)


def read_metadata(path: Path) -> dict[str, str]:
    """The facts that a weights file carries. Raises ValueError when it is not a tokenizer's."""
    if not path.is_file():
        raise ValueError(f"no tokenizer weights at {path}; `make weights` trains them")
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path.name} has format {metadata.get('format')!r}, needed is {FORMAT!r}; "
            "`make weights` trains a matching file"
        )
    return metadata


def anchors_fingerprint(anchors: Anchors) -> str:
    """What decides where tokens sit: faces and barycentric coordinates, in order."""
    return fingerprint([anchors.face.cpu().numpy(), anchors.barycentric.cpu().numpy()])


def _config_from(metadata: Mapping[str, str]) -> TokenizerConfig:
    fields = json.loads(metadata["config"])
    return TokenizerConfig(
        fields["name"],
        ReconstructorConfig(**fields["reconstructor"]),
        CompressorConfig(**fields["compressor"]),
    )


def _check_fingerprints(
    path: Path, metadata: Mapping[str, str], present: Mapping[str, str]
) -> None:
    for part, have in present.items():
        if metadata[part] != have:
            raise ValueError(
                f"{path.name} was trained with {part} {metadata[part][:12]}, but this "
                f"{part} is {have[:12]}; retrain with `make weights` or load the {part} it names"
            )


def _load(module: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> None:
    own = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    missing, unexpected = module.load_state_dict(own, strict=False)
    # A frozen image encoder arrives with its own weights; everything else must be in the file.
    missing = [name for name in missing if not name.startswith("image_encoder.")]
    if missing or unexpected:
        raise ValueError(
            f"the weights lack {missing[:3]} and have unknown {unexpected[:3]}; they belong to "
            "another version of the model: `make weights` trains matching ones"
        )
