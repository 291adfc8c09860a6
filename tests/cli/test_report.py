"""The report: escaped, self-contained, and a sheet with every picture in its place."""

import numpy as np

from avatarmill.cli.pages import HEAD, contact_sheet, template
from avatarmill.records.rejects import RejectRow


def test_nothing_of_a_strangers_file_runs_on_the_page() -> None:
    name = "<script>alert(1)</script>.mp4"
    page = template("report.html.j2").render(
        summary={"inputs": 1, "states": {"rejected": 1}, "clips": 0},
        rejects=[RejectRow(name, "sha", "source", "empty_file", "probe", "<b>0 bytes</b>")],
        rows=[],
        avatars=[],
    )
    assert "<script>" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.mp4" in page
    assert "default-src 'none'" in page


def test_pictures_keep_their_aspect_and_place() -> None:
    red, blue = np.zeros((40, 20, 3), np.uint8), np.zeros((10, 10, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = contact_sheet([[red], [blue, blue]], ["one"], side=20)
    assert sheet.shape == (HEAD + 40, 40, 3)
    np.testing.assert_array_equal(sheet[HEAD + 10, 5], (255, 0, 0))
    np.testing.assert_array_equal(sheet[HEAD + 10, 15], (255, 255, 255))
    np.testing.assert_array_equal(sheet[HEAD + 25, 25], (0, 0, 255))
