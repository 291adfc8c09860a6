"""video2dataset 1.3.0, cut detection and exact clips of local files: a peer in `bench-peers`.

Its `CutDetectionSubsampler` decodes each film once with OpenCV and PySceneDetect's ContentDetector
(threshold 27, shots of 15 frames and more); its `ClippingSubsampler` with `precision: exact`
decodes again with ffmpeg and encodes every frame at its size with libx264 and ffmpeg's defaults
(preset medium, crf 23), key frames forced at the cuts; clips, JSON and a `_stats.json` go to tars.
Two processes, as many samples a shard as asked for. It gets ffmpeg 4.2.2: with 7.0 and later the
segments it asks for are not the ones it gets, and every film with a cut ends in `list index out of
range`.

Importing it imports torch, torchaudio, torchdata, transformers and others, none of which is used on
this path; torch 2.1.2 and torchaudio for CPUs cannot be had from PyPI. `Absent` stands for them,
which also makes its start shorter than it is for its users.
"""

import abc
import importlib.abc
import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

NOT_USED = frozenset(
    ("torch", "torchaudio", "torchdata", "transformers", "einops", "langdetect", "decord")
)


class _AnyName(abc.ABCMeta):
    """Every attribute of an absent class is an absent class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent


class Absent(metaclass=_AnyName):
    """Whatever is imported from a package that is not there: base class, decorator, function."""

    def __new__(cls, *_: object, **__: object) -> "Absent":
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *values: Any, **_: object) -> Any:
        """As a decorator: what it decorates."""
        return values[0] if values else self

    def __class_getitem__(cls, _: object) -> Any:
        """As a type with parameters: itself."""
        return cls


class _AbsentModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, *_: object) -> Any:
        if name.split(".")[0] not in NOT_USED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


# At import, so that the processes it spawns have it too.
sys.meta_path.insert(0, _Finder())

PROCESSES, THREADS = 2, 2


def main(url_list: str, output: str, samples_per_shard: int) -> None:
    """Cuts the films of a CSV list with a column `url`."""
    from video2dataset import video2dataset

    clipping = {
        "min_length": 0.0,
        "max_length": 999999.0,
        "max_length_strategy": "all",
        "precision": "exact",
    }
    cuts = {"cut_detection_mode": "all", "framerates": None, "threshold": 27, "min_scene_len": 15}
    config = {
        "subsampling": {
            "CutDetectionSubsampler": {"cuts_are_clips": True, "args": cuts},
            "ClippingSubsampler": {"args": clipping},
        },
        "reading": {
            "yt_args": {"download_size": 360, "download_audio_rate": 44100},
            "timeout": 60,
            "sampler": None,
        },
        "storage": {
            "number_sample_per_shard": samples_per_shard,
            "oom_shard_count": 5,
            "captions_are_subtitles": False,
        },
        "distribution": {
            "processes_count": PROCESSES,
            "thread_count": THREADS,
            "subjob_size": 1000,
            "distributor": "multiprocessing",
        },
    }
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    path = Path(f"{output}.config.json")
    path.write_text(json.dumps(config))
    video2dataset(
        url_list=url_list,
        output_folder=output,
        output_format="webdataset",
        input_format="csv",
        url_col="url",
        encode_formats={"video": "mp4"},
        config=str(path),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
