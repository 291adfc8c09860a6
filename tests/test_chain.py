"""Videos to an avatar in one process, with the non-commercial `smplx` package out of reach."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatarmill.generate.job import GenerateConfig
from avatarmill.generate.job import run as generate
from avatarmill.pipeline.executor import run_here
from avatarmill.pipeline.gather import Gather
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.stages import curation_stages
from avatarmill.pipeline.work import Scanned, Work, shot_parts
from avatarmill.records.clip import CLIP_INDEX
from avatarmill.records.commit import write_group
from avatarmill.records.reader import clips_in, tokens_in
from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth
from avatarmill.tokenize.job import tokenize_group
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.train.diffusion import DiffusionTrainConfig
from avatarmill.train.diffusion import run as train_diffusion
from avatarmill.train.reconstructor import ReconstructorTrainConfig
from avatarmill.train.reconstructor import run as train_reconstructor
from avatarmill.train.synth_data import ActorSetConfig, build_actor_set

# DeepSpeed uses parts of torch that torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def no_smplx() -> Iterator[None]:
    """Its licence, code included, forbids training for commercial use: nothing here may need it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "smplx", None)
        with pytest.raises(ImportError):
            __import__("smplx")
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the clips and tokens of one rendered actor."""
    out = tmp_path_factory.mktemp("chain")
    synth(SynthConfig("wild", count=1, seed=3, out=out, seconds=1.6))
    config = CurateConfig(videos=out / "videos", out=out)
    sources = tuple(list_sources(config.videos))
    gather = Gather([(0, sources)])
    shots = [
        part
        for work in run_here([Work(source) for source in sources], scan_stages(config.stages()))
        if isinstance(work.content, Scanned)
        for part in shot_parts(work.source, work.content.scan)
    ]
    (group,) = filter(None, map(gather.add, run_here(shots, curation_stages(config.stages()))))
    clips = group.records
    write_group(out / "clips", "g", clips, schema=CLIP_INDEX, fingerprint="f", inputs=group.inputs)
    tokenize_group(Tokenizer.load(), out / "clips", out / "tokens", "g", "f")
    return out


def test_a_clip_becomes_a_token_sample_that_names_it(out: Path) -> None:
    (clip,) = clips_in(out / "clips")
    (sample,) = tokens_in(out / "tokens")
    assert sample.key == sample.meta.clip_key == clip.key
    assert sample.meta.captions == clip.meta.captions
    assert sample.meta.tokenizer == Tokenizer.load().fingerprint
    assert 0.1 < sample.visible_fraction < 1


def test_tokens_train_a_checkpoint_that_generates(out: Path) -> None:
    config = DiffusionTrainConfig(
        tokens=out / "tokens", out=out / "train", steps=2, batch_size=1, start_from="packaged"
    )
    assert train_diffusion(config) == 0
    settings = GenerateConfig(
        prompt="a man in a green coat",
        out=out,
        weights=config.weights,
        steps=2,
        size=64,
        turntable_frames=4,
        seconds=0.2,
    )
    assert generate(settings) == 0
    made = {path.suffix for path in (out / "avatars").iterdir()}
    assert made == {".ply", ".png", ".mp4", ".json"}


@pytest.mark.slow
def test_actors_train_a_reconstructor(tmp_path: Path) -> None:
    actors = ActorSetConfig(kind="wild", actors=2, frames=3, seed=5)
    folder = build_actor_set(tmp_path, actors, 1)
    config = ReconstructorTrainConfig(actors=folder, out=tmp_path / "run", steps=2, warmup_steps=1)
    assert train_reconstructor(config) == 0
    assert Tokenizer.load(tmp_path / "run" / "tokenizer.safetensors").metadata["wild.steps"] == "2"
