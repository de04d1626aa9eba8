import pytest

from caffe_compat.data.lists import read_labelled, read_pairs
from prototxt.errors import FormatError


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "list.txt"
        path.write_bytes(content)
        return path

    return write


def test_pairs_do_not_care_for_lines(write):
    path = write(b"\xef\xbb\xbfa.png b.png\r\n\n  c.png\td.png e.png\nf.png\n")
    assert read_pairs(path) == [("a.png", "b.png"), ("c.png", "d.png"), ("e.png", "f.png")]


def test_names_in_any_encoding(write):
    path = write("stra\u00dfe.png \u00a0x.png\n".encode())
    assert read_pairs(path) == [("stra\u00dfe.png", "\u00a0x.png")]


def test_odd_last_word_is_dropped_and_told(write, caplog):
    assert read_pairs(write(b"a b\nc\nd e\n")) == [("a", "b"), ("c", "d")]
    assert ":2: " in caplog.text
    assert "'e'" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n \n", b"alone.png"])
def test_empty(write, content):
    with pytest.raises(FormatError, match=r"list\.txt: the list is empty"):
        read_pairs(write(content))


def test_labelled_lines_split_at_the_last_space(write):
    assert read_labelled(write(b"my image.png 3\n\nb.png\t-1\r\n")) == [("my image.png", 3), ("b.png", -1)]


def test_labelled_lines_that_do_not_fit_are_named_together(write):
    with pytest.raises(FormatError) as error:
        read_labelled(write(b"a.png 1\nb.png\nc.png x\n"))
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in error.value.problems] == ["2", "3"]
    with pytest.raises(FormatError, match="and 40 lines more"):
        read_labelled(write(b"a.png\n" * 50))


def test_labelled_empty(write):
    with pytest.raises(FormatError, match="empty"):
        read_labelled(write(b"\n"))
