"""Files that are there whole or not at all, also when the process is killed."""

import os
import signal
import subprocess
import sys

import pytest

from keras_kicks.compression.whole_file import whole_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text):
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(text)


def test_a_file_is_written_and_replaced(tmp_path):
    for text in ("first", "second"):
        write(tmp_path / "file", text)
        assert (tmp_path / "file").read_text(encoding="utf-8") == text
        assert names(tmp_path) == ["file"]


def test_a_path_without_a_directory_is_that_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("file", "text")
    assert names(tmp_path) == ["file"]


def test_what_fails_leaves_what_was_there(tmp_path):
    write(tmp_path / "file", "old")

    def fail():
        with whole_file(tmp_path / "file") as partial, open(partial, "w", encoding="utf-8") as file:
            file.write("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["file"]


def test_the_file_has_the_mode_of_any_new_file(tmp_path):
    write(tmp_path / "file", "text")
    (tmp_path / "other").write_text("text", encoding="utf-8")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_is_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    write(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text(encoding="utf-8") == "text"


@pytest.mark.slow
def test_a_killed_process_leaves_the_old_file_and_at_most_a_partial_directory(tmp_path):
    write(tmp_path / "file", "old")
    code = (
        "import os, signal, sys; from keras_kicks.compression.whole_file import whole_file\n"
        "with whole_file(sys.argv[1]) as partial:\n"
        "    open(partial, 'w').write('ne')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    (partial,) = set(os.listdir(tmp_path)) - {"file"}
    assert partial.startswith(".partial-")
