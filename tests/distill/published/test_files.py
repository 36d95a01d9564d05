"""Files of published data: found, held to what was published, or downloaded."""

from __future__ import annotations

import gzip
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pocketseq.errors import DataError
from pocketseq_distill.published.files import DATA_VARIABLE, data_folder, read_lines

from .data import write

CONTENT = {"set/lines.txt": "one\x0b1\ntwo\u2028 \nthree\n"}


def test_lines_are_those_that_line_feeds_end(tmp_path: Path) -> None:
    """What else Unicode takes for a line end belongs to the text."""
    (file,) = write(tmp_path, CONTENT)
    assert read_lines(file, tmp_path, origin="here", downloads=tmp_path) == ["one\x0b1", "two\u2028 ", "three"]


@pytest.mark.parametrize("name", ["set/lines.txt.gz", "lines.txt", "lines.txt.gz"])
def test_a_file_may_be_compressed_and_lie_in_the_folder_itself(tmp_path: Path, name: str) -> None:
    """People who keep one data set have no folder above it."""
    (file,) = write(tmp_path / "made", CONTENT)
    content = CONTENT[file.name].encode()
    place = tmp_path / "data" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert len(read_lines(file, tmp_path / "data", origin="here", downloads=tmp_path)) == 3


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    """The error says which file, and where people get it."""
    (file,) = write(tmp_path, CONTENT)
    with pytest.raises(DataError, match=r"lines.txt: expected a file of published data, found none; get it from example.org"):
        read_lines(replace(file, name="set/other/lines.txt"), tmp_path / "set/nowhere", origin="example.org", downloads=tmp_path)


def test_a_file_with_rows_gone_is_refused(tmp_path: Path) -> None:
    """Counts come first, as they tell best what went wrong."""
    (file,) = write(tmp_path, CONTENT)
    (tmp_path / file.name).write_text("one\ntwo\n")
    with pytest.raises(DataError, match="expected 3 rows as published, found 2; get it from here"):
        read_lines(file, tmp_path, origin="here", downloads=tmp_path)


def test_a_file_with_other_content_is_refused(tmp_path: Path) -> None:
    """A row that was mended makes another test set."""
    (file,) = write(tmp_path, CONTENT)
    (tmp_path / file.name).write_text("one\ntwo\nthree\n")
    with pytest.raises(DataError, match="expected the published content with SHA-256 .*results would not compare"):
        read_lines(file, tmp_path, origin="here", downloads=tmp_path)


def test_a_torn_compressed_file_is_refused(tmp_path: Path) -> None:
    """Half a download is no data set."""
    (file,) = write(tmp_path / "made", CONTENT)
    (tmp_path / "lines.txt.gz").write_bytes(gzip.compress(CONTENT[file.name].encode())[:-12])
    with pytest.raises(DataError, match="expected a data file that can be read"):
        read_lines(file, tmp_path, origin="here", downloads=tmp_path)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path) -> None:
    """Flipped bits in the middle of it."""
    (file,) = write(tmp_path / "made", CONTENT)
    damaged = bytearray(gzip.compress(CONTENT[file.name].encode()))
    damaged[10] = 0xFF
    (tmp_path / "lines.txt.gz").write_bytes(damaged)
    with pytest.raises(DataError, match="expected a data file that can be read, found: Error -3"):
        read_lines(file, tmp_path, origin="here", downloads=tmp_path)


def test_a_download_that_is_cut_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A server that promised more than it sent."""
    content = CONTENT["set/lines.txt"].encode()

    class Cut(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:5])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Cut) as server:
        Thread(target=server.handle_request).start()
        (file,) = write(tmp_path, CONTENT, url=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(DataError, match=r"expected to download it from .*, found: IncompleteRead.*name the folder by --data"):
            read_lines(file, None, origin="here", downloads=tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_a_download_that_was_damaged_since_is_fetched_again(tmp_path: Path) -> None:
    """Who named no folder cannot be told to leave it out."""
    (file,) = write(tmp_path / "source", CONTENT, url=(tmp_path / "source").as_uri())
    (kept,) = write(tmp_path / "downloads", CONTENT)
    (tmp_path / "downloads" / kept.name).write_text("damaged\n")
    assert len(read_lines(file, None, origin="here", downloads=tmp_path / "downloads")) == 3
    assert (tmp_path / "downloads" / file.name).read_bytes() == CONTENT[file.name].encode()


def test_a_file_is_downloaded_once_where_no_folder_is_named(tmp_path: Path) -> None:
    """What came once lies in the run directory, and the second reading needs no source."""
    (file,) = write(tmp_path / "source", CONTENT, url=(tmp_path / "source").as_uri())
    assert len(read_lines(file, None, origin="here", downloads=tmp_path / "downloads")) == 3
    (tmp_path / "source" / file.name).unlink()
    assert len(read_lines(file, None, origin="here", downloads=tmp_path / "downloads")) == 3


def test_a_download_of_other_content_is_not_kept(tmp_path: Path) -> None:
    """What the source serves now may not be what was published."""
    (file,) = write(tmp_path / "source", CONTENT, url=(tmp_path / "source").as_uri())
    (tmp_path / "source" / file.name).write_text("one\ntwo\nthree\n")
    with pytest.raises(DataError, match="expected the published content"):
        read_lines(file, None, origin="here", downloads=tmp_path / "downloads")
    assert not (tmp_path / "downloads" / file.name).exists()


def test_a_source_that_cannot_be_reached_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A folder is the way out."""
    (file,) = write(tmp_path, CONTENT, url=(tmp_path / "gone").as_uri())
    with pytest.raises(DataError, match=rf"expected to download it from .*name the folder by --data DIR or {DATA_VARIABLE}"):
        read_lines(file, None, origin="here", downloads=tmp_path / "downloads")


def test_data_without_a_licence_is_never_downloaded(tmp_path: Path) -> None:
    """Getting it is the user's decision."""
    (file,) = write(tmp_path, CONTENT)
    with pytest.raises(DataError, match="its source states no licence to download it under"):
        read_lines(file, None, origin="here", downloads=tmp_path / "downloads")


def test_the_folder_is_given_or_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument goes before the environment; a folder that is not there is an error, not a download."""
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert data_folder(None) is None
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    assert data_folder(tmp_path) == tmp_path
    with pytest.raises(DataError, match="nowhere: expected the folder of published data, found none"):
        data_folder(None)
