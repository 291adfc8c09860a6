"""The adapter to the `smplx` package, tested on the free body, which has the same format."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarmill.avatar.body import FREE_BODY, BodyParams, load_body
from avatarmill.avatar.licensed import load_licensed_body


def test_same_call_and_same_result_as_our_own_skinning() -> None:
    pytest.importorskip("smplx")
    random = torch.Generator().manual_seed(1)
    params = BodyParams(
        0.4 * torch.randn(2, 1, 55, 3, generator=random),
        torch.randn(2, 1, 20, generator=random),
        torch.rand(2, 1, 52, generator=random),
        torch.randn(2, 1, 3, generator=random),
    )
    ours, theirs = load_body()(params), load_licensed_body(FREE_BODY)(params)
    for name in ("vertices", "joints", "transforms"):
        torch.testing.assert_close(
            getattr(theirs, name), getattr(ours, name), atol=1e-5, rtol=0, check_stride=False
        )


def test_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smplx", None)
    with pytest.raises(ImportError, match=r"pip install 'avatarmill\[smplx\]'"):
        load_licensed_body(FREE_BODY)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("smplx")
    np.savez(tmp_path / "evil.npz", v_template=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="'v_template' is pickled"):
        load_licensed_body(tmp_path / "evil.npz")


def test_missing_and_short_files_say_what_to_give(tmp_path: Path) -> None:
    pytest.importorskip("smplx")
    with pytest.raises(FileNotFoundError, match=r"SMPLX_\*\.npz"):
        load_licensed_body(tmp_path / "none.npz")
    np.savez(tmp_path / "short.npz", shapedirs=np.zeros((5, 3, 20)))
    with pytest.raises(ValueError, match="20 shape columns; the 400-column release"):
        load_licensed_body(tmp_path / "short.npz")
