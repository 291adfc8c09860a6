"""MediaPipe graphs put together from its own parts, so that several people can be followed.

`solutions.holistic` joins a detector that reports everybody to a tracker that follows the first of
them. Here the same two halves are run apart: one graph detects, and one graph for each person finds
landmarks, hands, face and mask in the region it is told to look at, and says where to look next.
"""

import time
from typing import Any

import numpy as np
from mediapipe.calculators.core import split_vector_calculator_pb2
from mediapipe.framework import calculator_pb2
from mediapipe.framework.formats import rect_pb2
from mediapipe.python import solution_base
from numpy.typing import NDArray

Node = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Calculator, input streams, output streams and side packets."""

_DETECTOR: tuple[Node, ...] = (("PoseDetectionCpu", ("IMAGE:image",), ("DETECTIONS:found",), ()),)
_FACE_POINTS = 11
"""The first so many landmarks of a body are of its face."""
_PERSON: tuple[Node, ...] = (
    ("ImagePropertiesCalculator", ("IMAGE_CPU:image",), ("SIZE:size",), ()),
    (
        "PoseLandmarkByRoiCpu",
        ("IMAGE:image", "ROI:region"),
        (
            "LANDMARKS:raw_body",
            "AUXILIARY_LANDMARKS:raw_frame",
            "WORLD_LANDMARKS:raw_world",
            "SEGMENTATION_MASK:raw_mask",
        ),
        ("MODEL_COMPLEXITY:model_complexity", "ENABLE_SEGMENTATION:enable_segmentation"),
    ),
    (
        "PoseLandmarkFiltering",
        (
            "IMAGE_SIZE:size",
            "NORM_LANDMARKS:raw_body",
            "AUX_NORM_LANDMARKS:raw_frame",
            "WORLD_LANDMARKS:raw_world",
        ),
        (
            "FILTERED_NORM_LANDMARKS:body",
            "FILTERED_AUX_NORM_LANDMARKS:frame",
            "FILTERED_WORLD_LANDMARKS:body_world",
        ),
        ("ENABLE:smooth_landmarks",),
    ),
    ("PoseLandmarksToRoi", ("LANDMARKS:frame", "IMAGE_SIZE:size"), ("ROI:next_region",), ()),
)
_MASK_AND_DETAIL: tuple[Node, ...] = (
    ("FromImageCalculator", ("IMAGE:raw_mask",), ("IMAGE_CPU:mask",), ()),
    (
        "HandLandmarksLeftAndRightCpu",
        ("IMAGE:image", "POSE_LANDMARKS:body"),
        ("LEFT_HAND_LANDMARKS:left_hand", "RIGHT_HAND_LANDMARKS:right_hand"),
        (),
    ),
    ("SplitNormalizedLandmarkListCalculator", ("body",), ("face_of_body",), ()),
    (
        "FaceLandmarksFromPoseCpu",
        ("IMAGE:image", "FACE_LANDMARKS_FROM_POSE:face_of_body"),
        ("FACE_LANDMARKS:face",),
        ("REFINE_LANDMARKS:refine_face_landmarks",),
    ),
)
_PRESENCE = "poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__ThresholdingCalculator"


class Graph:
    """A running graph; `seconds` is the time spent inside it, its making included."""

    def __init__(self, **options: Any) -> None:
        started = time.perf_counter()
        self._base = solution_base.SolutionBase(**options)
        self.seconds = time.perf_counter() - started

    def __call__(self, **streams: Any) -> Any:
        """Outputs of one step, None where the graph gave nothing."""
        started = time.perf_counter()
        outputs = self._base.process(streams)
        self.seconds += time.perf_counter() - started
        return outputs

    def reset(self) -> None:
        """Forgets every frame seen before."""
        started = time.perf_counter()
        self._base.reset()
        self.seconds += time.perf_counter() - started


def detector(confidence: float) -> Graph:
    """From `image` to `found`: detections of everybody, at least so confident."""
    return Graph(
        graph_config=_config(_DETECTOR, ("image",), ("found",)),
        calculator_params={
            "posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh": confidence
        },
        stream_type_hints={"found": solution_base.PacketDataType.PROTO_LIST},
        outputs=["found"],
    )


def person(complexity: int, confidence: float, *, detailed: bool) -> Graph:
    """From `image` and `region` to the landmarks of one person, None below the confidence.

    Outputs `body`, `body_world` and `next_region`; `detailed` graphs also smooth over time and give
    `mask`, `left_hand`, `right_hand` and `face`.
    """
    outputs = ["body", "body_world", "next_region"]
    side: dict[str, Any] = {
        "model_complexity": complexity,
        "smooth_landmarks": detailed,
        "enable_segmentation": detailed,
    }
    nodes = _PERSON
    if detailed:
        nodes += _MASK_AND_DETAIL
        outputs += ["mask", "left_hand", "right_hand", "face"]
        side["refine_face_landmarks"] = True
    return Graph(
        graph_config=_config(nodes, ("image", "region"), tuple(outputs)),
        side_inputs=side,
        calculator_params={f"{_PRESENCE}.threshold": confidence},
    )


def _config(nodes: tuple[Node, ...], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
    """The graph as MediaPipe wants it."""
    config = calculator_pb2.CalculatorGraphConfig(input_stream=inputs, output_stream=outputs)
    for calculator, streams_in, streams_out, side in nodes:
        node = config.node.add(
            calculator=calculator,
            input_stream=streams_in,
            output_stream=streams_out,
            input_side_packet=side,
        )
        if calculator.startswith("Split"):
            options = split_vector_calculator_pb2.SplitVectorCalculatorOptions
            node.options.Extensions[options.ext].ranges.add(begin=0, end=_FACE_POINTS)
    return config


def rect(region: NDArray[np.float64], width: int, height: int) -> Any:
    """A region [5] (centre x, y, width, height in pixels, clockwise radians) for a graph."""
    x, y, across, down, turn = (float(value) for value in region)
    return rect_pb2.NormalizedRect(
        x_center=x / width,
        y_center=y / height,
        width=across / width,
        height=down / height,
        rotation=turn,
    )


def region(found: Any, width: int, height: int) -> NDArray[np.float64]:
    """The region [5] of a graph's rectangle; the inverse of `rect`."""
    return np.array(
        [
            found.x_center * width,
            found.y_center * height,
            found.width * width,
            found.height * height,
            found.rotation,
        ]
    )
