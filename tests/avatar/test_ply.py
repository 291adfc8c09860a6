"""Splat files round-trip byte for byte, and strangers' files are read or refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.ply import COLUMNS, read_ply, read_splats, write_ply
from avatarmill.avatar.splat_table import SplatTable


def some(seed: int = 0, count: int = 300, channels: int = 3) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=generator),
        torch.randn(count, 4, generator=generator),
        torch.exp(3 * torch.randn(count, 3, generator=generator) - 4),
        torch.rand(count, generator=generator),
        torch.rand(count, channels, generator=generator) * 1.2 - 0.1,
    )


def test_values_survive(tmp_path: Path) -> None:
    before = some()
    write_ply(tmp_path / "a.ply", before)
    after = read_ply(tmp_path / "a.ply")
    for old, new in zip(before.tensors(), after.tensors(), strict=True):
        torch.testing.assert_close(old, new, rtol=2e-6, atol=2e-7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    opacities=npst.arrays(np.float32, 16, elements=st.floats(0, 1, width=32)),
    scales=npst.arrays(np.float32, (16, 3), elements=st.floats(0, 64, width=32)),
    colors=npst.arrays(np.float32, (16, 3), elements=st.floats(-2, 2, width=32)),
)
def test_written_and_read_back_is_the_same_bytes(
    tmp_path: Path,
    opacities: np.ndarray[tuple[int], np.dtype[np.float32]],
    scales: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    colors: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    base = some(count=16)
    edges = (torch.from_numpy(array) for array in (scales, opacities, colors))
    write_ply(tmp_path / "a.ply", Gaussians(base.means, base.rotations, *edges))
    write_ply(tmp_path / "b.ply", read_ply(tmp_path / "a.ply"))
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_layout_is_the_one_viewers_expect(tmp_path: Path) -> None:
    gaussians = some(count=2)
    write_ply(tmp_path / "a.ply", gaussians)
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert header.decode().splitlines()[:3] == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 2",
    ]
    assert tuple(line.split()[2] for line in header.decode().splitlines()[3:]) == COLUMNS
    table = np.frombuffer(body, "<f4").reshape(2, len(COLUMNS))
    np.testing.assert_allclose(table[:, 10:13], gaussians.scales.log(), rtol=1e-6)
    np.testing.assert_allclose(table[:, 9], torch.logit(gaussians.opacities), rtol=1e-5)
    np.testing.assert_allclose(table[:, 6:9] * 0.2820948 + 0.5, gaussians.colors, atol=1e-6)


def foreign(path: Path, extra: tuple[str, ...] = (), rows: int = 3) -> None:
    """A file with doubles, another order and no normals, as other tools write them."""
    names = [name for name in reversed(COLUMNS) if not name.startswith("n")] + list(extra)
    properties = "".join(f"property double {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\ncomment x\nelement vertex 3\n{properties}"
    path.write_bytes(f"{header}end_header\n".encode() + np.full((rows, len(names)), 0.5).tobytes())


def test_other_orders_and_types_are_read(tmp_path: Path) -> None:
    foreign(tmp_path / "a.ply")
    gaussians = read_ply(tmp_path / "a.ply")
    torch.testing.assert_close(gaussians.scales, torch.full((3, 3), 0.5).exp())
    torch.testing.assert_close(gaussians.opacities, torch.full((3,), 0.5).sigmoid())


def harmonic(degree: int, count: int = 40) -> tuple[bytes, np.ndarray]:
    """A file as the 3DGS reference writes it, and its table."""
    rest = 3 * ((degree + 1) ** 2 - 1)
    names = [*COLUMNS[:9], *(f"f_rest_{i}" for i in range(rest)), *COLUMNS[9:]]
    table = np.random.default_rng(degree).normal(size=(count, len(names))).astype("<f4")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n"
    header += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    return header.encode() + table.tobytes(), table


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_files_from_elsewhere_are_written_back_byte_for_byte(tmp_path: Path, degree: int) -> None:
    data, table = harmonic(degree)
    (tmp_path / "a.ply").write_bytes(data)
    splats = read_splats(tmp_path / "a.ply")
    write_ply(tmp_path / "b.ply", splats)
    assert (tmp_path / "b.ply").read_bytes() == data
    assert splats.degree == degree and f"degree={degree}" in repr(splats)
    # Channel-major: the second channel's coefficients follow all of the first one's.
    bands = (degree + 1) ** 2
    for channel in range(3):
        first = 9 + channel * (bands - 1)
        np.testing.assert_array_equal(
            splats.harmonics[:, 1:, channel], table[:, first : first + bands - 1]
        )


def test_view_dependent_colours_are_not_dropped_silently(tmp_path: Path) -> None:
    data, table = harmonic(2)
    (tmp_path / "a.ply").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.ply: .*degree 2.*drop_view_dependence=True"):
        read_ply(tmp_path / "a.ply")
    mean = read_ply(tmp_path / "a.ply", drop_view_dependence=True)
    np.testing.assert_allclose(mean.colors, 0.5 + 0.2820948 * table[:, 6:9], atol=1e-6)


def test_numbers_of_harmonics_must_fit_a_degree(tmp_path: Path) -> None:
    foreign(tmp_path / "a.ply", extra=("f_rest_0",))
    with pytest.raises(ValueError, match=r"has 1 properties f_rest_\*.*\[0, 9, 24, 45\]"):
        read_ply(tmp_path / "a.ply")
    zero = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"harmonics must be \[2, 1, 4, 9 or 16, 3\]"):
        SplatTable(zero, zero, np.zeros((2, 5, 3), np.float32), zero[:, 0], zero, zero)
    with pytest.raises(ValueError, match=r"rotations must be \[2, 4\], got \[2, 3\]"):
        SplatTable(zero, zero, zero[:, None], zero[:, 0], zero, zero)


@pytest.mark.parametrize("cut", [1, 100, 400])
def test_cut_and_padded_files_are_refused(tmp_path: Path, cut: int) -> None:
    data, _ = harmonic(1)
    (tmp_path / "a.ply").write_bytes(data[:-cut])
    with pytest.raises(ValueError, match="truncated: 40 Gaussians need"):
        read_splats(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes(data + bytes(cut))
    with pytest.raises(ValueError, match="longer than its header says"):
        read_splats(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r"is not a \.ply file"):
        read_splats(tmp_path / "a.ply")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    data, _ = harmonic(0)
    (tmp_path / "a.ply").write_bytes(data[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(ValueError, match=r"a\.ply: 1 Gaussians are not finite.*number 39"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a .ply file"),
        (b"ply\nformat ascii 1.0\nend_header\n", "must be binary_little_endian.*'format ascii"),
        (b"ply\nformat binary_big_endian 1.0\nend_header\n", "binary_big_endian 1.0': save it"),
        (b"ply\nend_header\n", "its header says 'nothing'"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
            b"property float x\nproperty float x\nend_header\n",
            "names properties twice",
        ),
        (b"ply\nformat binary_little_endian 1.0\nelement face 1\nend_header\n", "one element"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
            b"property list uchar int i\nend_header\n",
            "not plain numbers",
        ),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
            b"property float x\nend_header\n",
            "it has no y, z",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.ply").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_ply(tmp_path / "a.ply")


def test_truncation_is_noticed(tmp_path: Path) -> None:
    foreign(tmp_path / "a.ply", rows=2)
    with pytest.raises(ValueError, match="truncated: 3 Gaussians need"):
        read_ply(tmp_path / "a.ply")


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have 4 channels"):
        write_ply(tmp_path / "a.ply", some(channels=4))
    broken = some()
    broken.means[7, 1] = torch.nan
    with pytest.raises(ValueError, match="1 Gaussians are not finite, the first is number 7"):
        write_ply(tmp_path / "a.ply", broken)
