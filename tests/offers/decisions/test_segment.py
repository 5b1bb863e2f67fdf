import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.decisions.segment import Damage, adopt, framed, lines, sealed

PAYLOADS = [b'{"a":1}', b"", '{"müde":"ß"}'.encode()]
CONTENT = b"".join(map(framed, PAYLOADS))


def payloads(content: bytes) -> list[bytes]:
    return [line for line in lines(content) if isinstance(line, bytes)]


def test_lines_come_back() -> None:
    assert list(lines(CONTENT)) == PAYLOADS


@given(st.integers(0, len(CONTENT)))
def test_a_torn_end_costs_one_line_at_most(end: int) -> None:
    whole = [payload for k, payload in enumerate(PAYLOADS) if len(b"".join(map(framed, PAYLOADS[: k + 1]))) <= end]
    assert payloads(CONTENT[:end]) == whole


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_an_altered_byte_is_noticed_and_the_other_lines_stay(place: int, difference: int) -> None:
    content = bytearray(CONTENT)
    content[place] ^= difference
    found = list(lines(bytes(content)))
    damages = [line for line in found if isinstance(line, Damage)]
    assert damages
    assert all(bytes(content)[damage.offset :].startswith(damage.content) for damage in damages)
    # A line break more or less merges or splits two lines; another byte costs its own.
    assert set(payloads(bytes(content))) < {*PAYLOADS}


def test_a_segment_whose_writer_was_killed_is_sealed_without_its_torn_line(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from offers.decisions.spool import Spool, SpoolLimits\n"
        "spool = Spool(Path(sys.argv[1]), 'pod', SpoolLimits()); spool.append(b'first'); spool.append(b'second')\n"
        "os.write(spool._descriptor, b'00000005 0')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".open"]
    assert adopt(tmp_path) == len(b"00000005 0")
    (segment,) = sealed(tmp_path)
    assert (segment.writer, segment.number) == ("pod", 0)
    assert list(lines(segment.path.read_bytes())) == [b"first", b"second"]
    assert adopt(tmp_path) == 0


@pytest.mark.parametrize(
    "name", ["notes.txt", "pod.sealed", "pod-1.sealed", "-00000001.sealed", "pod-00000001.sealed~"]
)
def test_foreign_files_are_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"mine")
    assert adopt(tmp_path) == 0
    assert sealed(tmp_path) == []
    assert os.listdir(tmp_path) == [name]
