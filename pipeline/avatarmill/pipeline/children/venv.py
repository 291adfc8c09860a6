"""Where the interpreter of the MediaPipe environment is."""

import os
import sys
from pathlib import Path

VARIABLE = "AVATARMILL_MEDIAPIPE_PYTHON"


def mediapipe_python(configured: Path | None = None) -> Path:
    """The configured path, else $AVATARMILL_MEDIAPIPE_PYTHON, else `.venv-mediapipe` beside ours.

    MediaPipe needs numpy < 2 and lives in an environment of its own. Raises ValueError when the
    file does not exist.
    """
    if configured is not None:
        python, origin = configured, "PeopleConfig.python"
    elif VARIABLE in os.environ:
        python, origin = Path(os.environ[VARIABLE]), f"${VARIABLE}"
    else:
        python = Path(sys.prefix).parent / ".venv-mediapipe" / "bin" / "python"
        origin = "the default"
    if not python.is_file():
        raise ValueError(
            f"no MediaPipe interpreter at {python} ({origin}); run `make setup` to create it"
        )
    return python
