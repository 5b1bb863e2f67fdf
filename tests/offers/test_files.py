"""Records and tables that steps hand on, and what is said where they can't be."""

import errno
from pathlib import Path

import pandas as pd
import pytest
from pydantic import BaseModel

from offers.errors import SourceError, StorageError
from offers.files import os_errors, read, save
from offers.wording import some

ROWS = pd.DataFrame({"age": [30, 41]})


class Count(BaseModel):
    rows: int


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    save(tmp_path / "new" / "step", "count.json", Count(rows=2))
    save(tmp_path / "new" / "step", "rows.parquet", ROWS)
    assert read(tmp_path / "new" / "step", "count.json", Count) == Count(rows=2)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "step" / "rows.parquet"), ROWS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("content", [ROWS, Count(rows=2)])
def test_a_full_disk(tmp_path: Path, content: BaseModel | pd.DataFrame) -> None:
    (tmp_path / "result").symlink_to("/dev/full")
    message = "result: the disk is full; make room and run again; earlier results are whole$"
    with pytest.raises(StorageError, match=message):
        save(tmp_path, "result", content)


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/step: a part of this path is a file, not a directory; correct it"):
        save(tmp_path / "file" / "step", "count.json", Count(rows=2))


def test_no_permission(locked: Path) -> None:
    with pytest.raises(StorageError, match=r"locked.*: no permission; check who owns it"):
        save(locked, "count.json", Count(rows=2))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, "", "there"), "^there: the file system is read-only; choose another place$"),
        (OSError(errno.ENOTEMPTY, "", "from", None, "to"), "^to: is there and not empty; choose another directory$"),
        (OSError(errno.EIO, "Input/output error"), "^here: Input/output error$"),
        (OSError("Repetition level histogram size mismatch"), "^here: Repetition level histogram size mismatch$"),
    ],
)
def test_an_error_of_the_system_is_one_sentence(error: OSError, message: str) -> None:
    with pytest.raises(SourceError, match=message), os_errors(Path("here"), SourceError):
        raise error


def test_many_names_are_shown_in_part() -> None:
    assert some(["age", "a\nb"]) == r"age, 'a\nb'"
    assert some([str(number) for number in range(14)]).endswith("10, 11 and 2 more")
