"""The image's recipe says the same as the Makefile, and needs nothing it does not copy."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
PINNED = re.compile(r"\b(torch|sam2|mediapipe)(==[\d.]+)")


def test_pins_are_those_of_make_setup() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert dict(PINNED.findall(DOCKERFILE)) == dict(PINNED.findall(makefile))
    for requirement in ("'numpy<2'", "'protobuf<5'", "'opencv-contrib-python-headless<4.12'"):
        assert requirement in DOCKERFILE and requirement in makefile


def test_what_the_build_needs_gets_past_dockerignore() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    pyproject = (ROOT / "pyproject.toml").read_text()
    folders = re.findall(r'"(\w+)/avatarmill"', pyproject)
    assert set(folders) | {"pyproject.toml", "README.md", "LICENSE"} <= kept
    assert re.search(r"COPY constraints\.txt constraints-mediapipe\.txt", DOCKERFILE)
    assert "constraints*.txt" in kept


def test_untrusted_files_are_not_decoded_as_root_and_no_licence_is_broken() -> None:
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)
    extras = re.search(r"whl\)\[(.*?)\]", DOCKERFILE)
    assert extras and "smplx" not in extras[1].split(",")
    assert "GPL" in DOCKERFILE
