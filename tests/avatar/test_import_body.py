"""Licensed-like files: read without running what they hide, refused with a way out."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avatarmill.avatar import import_body as module
from avatarmill.avatar.anchors import load_anchors, stored_anchors_path
from avatarmill.avatar.body import FREE_BODY, BodyParams, load_body
from avatarmill.avatar.import_body import import_body
from avatarmill.avatar.licensed import load_licensed_body, load_surface
from avatarmill.avatar.parts import PARTS
from avatarmill.cli.main import main

Arrays = dict[str, NDArray[np.generic]]
NUM_ANCHORS = 96  # deriving all 8,192 takes seconds, and is the same code


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture(autouse=True)
def few_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANCHORS", NUM_ANCHORS)


@pytest.fixture(scope="module")
def licensed() -> Arrays:
    """The free body with all 300 + 100 columns and pose correctives, as licensed files have."""
    rng = np.random.default_rng(0)
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        arrays: Arrays = {name: archive[name] for name in (*module.NEEDED, "vt", "ft")}
    shapes = arrays["shapedirs"].astype(np.float32)
    shapes[:, :, 20:300] = 1e-3 * rng.normal(size=(1, 1, 280))
    shapes[:, :, 352:] = 1e-4 * rng.normal(size=(1, 1, 48))
    posedirs = np.zeros(arrays["posedirs"].shape, np.float32)
    posedirs[:100] = 1e-3 * rng.normal(size=(100, 3, 486))
    parents = arrays["kintree_table"].astype(np.uint32)  # the root's -1 becomes 4294967295
    return arrays | {"shapedirs": shapes, "posedirs": posedirs, "kintree_table": parents}


def save(path: Path, arrays: Arrays, **more: NDArray[np.generic]) -> Path:
    np.savez(path, allow_pickle=True, **(arrays | more))
    return path


@pytest.mark.parametrize("gender", ["female", "neutral"])
def test_a_body_of_any_gender_comes_out_clean(
    gender: str, licensed: Arrays, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    # SMPL-X's own files have such dictionaries beside the arrays.
    hidden = np.array([Bomb(mark)], dtype=object)
    source = save(tmp_path / f"SMPLX_{gender.upper()}.npz", licensed, part2num=hidden)
    body = import_body(source)
    assert body.gender == gender and body.path == tmp_path / f"clean/SMPLX_{gender.upper()}.npz"
    assert (body.num_vertices, body.num_shape, body.num_expression) == (13718, 300, 100)
    assert not mark.exists()
    with np.load(body.path, allow_pickle=False) as clean:
        assert set(clean.files) == {*module.NEEDED, "vt", "ft"}
        np.testing.assert_array_equal(clean["posedirs"], licensed["posedirs"])
        assert {clean[name].dtype.str for name in clean.files} == {"<f4", "<i8"}


def test_the_clean_body_moves_with_its_correctives(licensed: Arrays, tmp_path: Path) -> None:
    pytest.importorskip("smplx")
    clean = import_body(save(tmp_path / "SMPLX_MALE.npz", licensed)).path
    loaded, free = load_licensed_body(clean), load_body()
    rest = BodyParams.rest()
    pose = rest.pose.clone()
    pose[:, 4] = torch.tensor([0.8, 0.0, 0.0])
    bent = BodyParams(pose, rest.shape, rest.expression, rest.translation)
    difference = (loaded(bent).vertices - free(bent).vertices).detach().abs().amax((0, 2))
    assert difference[:100].max() > 1e-4  # correctives
    assert difference[100:].max() < 1e-5
    assert loaded(rest).vertices.shape == (1, 13718, 3)
    with pytest.raises(ValueError, match="load_licensed_body"):
        load_body(clean)


def test_anchors_are_stored_with_the_body_they_belong_to(licensed: Arrays, tmp_path: Path) -> None:
    taller = licensed["v_template"].astype(np.float32) * np.float32(1.1)
    body = import_body(save(tmp_path / "SMPLX_MALE.npz", licensed, v_template=taller))
    surface = load_surface(body.path)
    assert (
        body.anchors == stored_anchors_path(body.path) and surface.fingerprint == body.fingerprint
    )
    stored = load_anchors(surface, 64, stored=body.anchors)
    derived = load_anchors(surface, 64)
    assert torch.equal(stored.face, derived.face)
    assert stored.fingerprint == body.fingerprint != load_body().fingerprint
    # Labels come from the weights: hands are found, and on their own side.
    left = surface.template[surface.vertex_part == PARTS.index("left_hand")]
    assert len(left) > 500 and (left[:, 0] > 0.5).all()


def test_the_anchors_of_another_body_are_not_used(licensed: Arrays, tmp_path: Path) -> None:
    body = import_body(save(tmp_path / "SMPLX_MALE.npz", licensed))
    moved = save(
        tmp_path / "moved.npz", licensed, v_template=licensed["v_template"].astype(np.float32) * 2
    )
    anchors = load_anchors(load_surface(moved), 16, stored=body.anchors)
    assert anchors.fingerprint != body.fingerprint


def test_a_pickled_array_is_not_read(licensed: Arrays, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bomb = np.array([Bomb(mark)], dtype=object)
    source = save(tmp_path / "SMPLX_MALE.npz", licensed, weights=bomb)
    with pytest.raises(ValueError, match="'weights' is pickled and could run code"):
        import_body(source)
    assert not mark.exists() and not (tmp_path / "clean").exists()


def test_a_pickle_needs_trust(licensed: Arrays, tmp_path: Path) -> None:
    source = tmp_path / "SMPLX_NEUTRAL.pkl"
    source.write_bytes(pickle.dumps(licensed))
    with pytest.raises(ValueError, match=r"runs the code it holds.*--trust-pickle"):
        import_body(source)
    assert import_body(source, trust_pickle=True).gender == "neutral"
    source.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds no body but a list"):
        import_body(source, trust_pickle=True)
    source.write_bytes(b"\x80")
    with pytest.raises(ValueError, match="truncated or no pickle"):
        import_body(source, trust_pickle=True)


def test_truncated_and_damaged_files_say_so(licensed: Arrays, tmp_path: Path) -> None:
    content = save(tmp_path / "SMPLX_MALE.npz", licensed).read_bytes()
    source = tmp_path / "SMPLX_FEMALE.npz"
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"SMPLX_FEMALE.npz is not an npz archive.*truncated"):
        import_body(source)
    spoilt = bytearray(content)
    spoilt[50_000] ^= 0xFF
    source.write_bytes(spoilt)
    with pytest.raises(ValueError, match="damaged .*CRC"):
        import_body(source)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("weights", np.zeros((13718, 24)), r"\[13718, 55\] \(SMPL and SMPL\+H have fewer joints\)"),
        ("shapedirs", np.zeros((13718, 3, 20)), "20 shape columns; the release with 400"),
        ("posedirs", np.zeros((13718, 3, 207)), r"posedirs has shape \[13718, 3, 207\]"),
        ("v_template", np.full((13718, 3), np.nan), "v_template holds values that are not finite"),
        ("f", np.full((27420, 3), 20_000), r"f points to 20000..20000 of 13718"),
        ("hands_meanl", np.array(["a"] * 45), "hands_meanl holds <U1, not numbers"),
        ("kintree_table", np.full((2, 55), 54), "no tree"),
    ],
)
def test_wrong_arrays_are_named(
    name: str, array: NDArray[np.generic], message: str, licensed: Arrays, tmp_path: Path
) -> None:
    source = save(tmp_path / "SMPLX_MALE.npz", licensed | {name: array})
    with pytest.raises(ValueError, match=message):
        import_body(source)


def test_other_files_and_unclear_names(licensed: Arrays, tmp_path: Path) -> None:
    other = save(tmp_path / "SMPLX_MALE.npz", {"poses": np.zeros((4, 165))})
    with pytest.raises(ValueError, match=r"lacks v_template, f, .*not a body of SMPL-X"):
        import_body(other)
    with pytest.raises(FileNotFoundError, match=r"SMPLX_\*\.npz"):
        import_body(tmp_path / "none.npz")
    nameless = save(tmp_path / "body.npz", licensed)
    with pytest.raises(ValueError, match="does not say its gender"):
        import_body(nameless)
    assert import_body(nameless, gender="female").path.name == "SMPLX_FEMALE.npz"


def test_too_large_a_member_is_not_unpacked(
    licensed: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MEMBER_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000"):
        import_body(save(tmp_path / "SMPLX_MALE.npz", licensed))


def test_a_body_is_not_written_over_itself(licensed: Arrays, tmp_path: Path) -> None:
    source = save(tmp_path / "SMPLX_MALE.npz", licensed)
    with pytest.raises(ValueError, match="give another folder"):
        import_body(source, tmp_path)


def test_the_command_prints_what_was_read(
    licensed: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "SMPLX_MALE.npz", licensed)
    assert main(["import-body", str(source), "--out", str(tmp_path / "bodies")]) == 0
    printed = capsys.readouterr().out
    assert "male" in printed and "13718" in printed and "300" in printed
    assert (tmp_path / "bodies/SMPLX_MALE.npz").is_file()
    assert main(["import-body", str(tmp_path / "no.npz")]) == 2
    assert "no body at" in capsys.readouterr().err
