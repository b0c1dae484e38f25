"""Text tables as programs and countries write them: read as they are meant, and said; else refused with the line."""

import warnings

import numpy as np
import pandas as pd
import pytest

from vaelab.cli import main
from vaelab.data import load
from vaelab.data.delimited import read_csv
from vaelab.errors import InputError, VaelabWarning

X = np.random.default_rng(0).normal(size=(60, 3)).round(3) * 1000


def write(path, lines, encoding="utf-8"):
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def rows(separator=",", form="{:.1f}".format):
    return [separator.join(map(form, row)) for row in X]


def read(path, **options):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        frame, headless = read_csv(path, **options)
    return frame, headless, [str(one.message) for one in heard]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_separators_are_found_and_said(tmp_path, separator):
    frame, headless, said = read(write(tmp_path / "x.csv", [separator.join("abc"), *rows(separator)]))
    np.testing.assert_allclose(frame.to_numpy(), X, atol=0.06)
    assert list(frame.columns) == ["a", "b", "c"]
    assert not headless
    assert bool(said) == (separator != ",")


@pytest.mark.parametrize("form", ["{:.1f}", "{:,.1f}"])
def test_decimal_commas_and_thousands(tmp_path, form):
    def written(value):
        return form.format(value).translate(str.maketrans(",.", ".,"))

    path = write(tmp_path / "x.csv", ["a;b;c", *rows(";", written)])
    frame, _, said = read(path)
    np.testing.assert_allclose(frame.to_numpy(dtype=float), X, atol=0.06)
    assert said == [f"{path} is read with columns separated by semicolons; decimal commas in 'a', 'b', 'c'."]
    with pytest.warns(VaelabWarning, match="decimal commas"):
        assert load(path).columns == ("a", "b", "c")


def test_text_with_commas_between_semicolons_stays_text(tmp_path):
    frame, _, said = read(write(tmp_path / "x.csv", ["name;v", *(f"a, b{i};{i}.5" for i in range(30))]))
    assert frame["name"][3] == "a, b3"
    assert frame["v"][3] == 3.5
    assert "decimal" not in said[0]


@pytest.mark.parametrize("line", ["1,2", "1,2,3,4", '"1,2",3'])
def test_a_line_of_another_length_is_refused_with_its_number(tmp_path, line):
    path = write(tmp_path / "x.csv", ["a,b,c", *rows(), line, *rows()])
    with pytest.raises(InputError, match=r"line 62 has \d fields where the first line has 3"):
        read_csv(path)


def test_a_header_that_is_one_short_shifts_nothing(tmp_path):
    with pytest.raises(InputError, match="line 2 has 3 fields where the first line has 2"):
        read_csv(write(tmp_path / "x.csv", ["a,b", *rows()]))


@pytest.mark.parametrize("marker", ["?", "-", "n/a", " NA ", ".", "#N/A", "None"])
def test_what_stands_for_a_missing_entry_leaves_numbers(tmp_path, marker):
    lines = rows()
    lines[7] = f"{X[7, 0]:.1f},{marker},{X[7, 2]:.1f}"
    frame, _, _ = read(write(tmp_path / "x.csv", ["a,b,c", *lines]))
    assert frame.dtypes.tolist() == [float] * 3
    assert np.argwhere(frame.isna().to_numpy()).tolist() == [[7, 1]]


def test_other_words_among_numbers_are_asked_about(tmp_path):
    lines = rows()
    lines[7] = "1.5,offline,2.5"
    path = write(tmp_path / "x.csv", ["a,b,c", *lines])
    with pytest.warns(VaelabWarning, match=r"column 'b' as text, for 'offline' among its numbers.*--missing"):
        assert load(path, mixed=True).schema.columns[1].form == "text"
    assert read(path, missing=["offline"])[0]["b"].isna().sum() == 1
    short = ["--likelihood", "mixed", "--network", "mlp(hidden=[8])", "--epochs", "1", "--densities"]
    run = ["--out", str(tmp_path), "--name", "run"]
    assert main(["train", str(path), "--missing", "offline", *short, *run]) == 0
    assert main(["encode", str(tmp_path / "run"), str(path), "--out", str(tmp_path / "codes.npy")]) == 0
    codes = [f"{i % 7}" for i in range(59)] + ["7b"]
    few, _, _ = read(write(tmp_path / "codes.csv", ["code", *codes]))
    assert few["code"].tolist() == codes  # few values are codes, and stay text


def test_columns_without_names(tmp_path):
    numbered, _, said = read(write(tmp_path / "x.csv", [",a,b,c", *(f"{i},{line}" for i, line in enumerate(rows()))]))
    assert list(numbered.columns) == ["a", "b", "c"]
    assert "left out, which counts the rows" in said[0]
    kept, _, said = read(write(tmp_path / "y.csv", [",a,b,c", *(f"{i * i},{line}" for i, line in enumerate(rows()))]))
    assert kept.shape == (60, 4)
    assert "a column without a name, as 'Unnamed: 0'" in said[0]
    trailing, _, said = read(write(tmp_path / "z.csv", ["a,b,c,", *(f"{line}," for line in rows())]))
    assert list(trailing.columns) == ["a", "b", "c"]
    assert not said


def test_booleans_beside_numbers_are_numbers(tmp_path):
    path = write(tmp_path / "x.csv", ["a,flag", *(f"{value:.2f},{value > 0}" for value in X[:, 0])])
    found = load(path).train.x
    assert found.shape == (54, 2)
    assert set(found[:, 1].tolist()) == {0.0, 1.0}


def test_letters_of_other_encodings(tmp_path):
    frame, _, said = read(write(tmp_path / "x.csv", ["größe,b", *(f"{a:.1f},{b:.1f}" for a, b, _ in X)], "cp1252"))
    assert list(frame.columns) == ["größe", "b"]
    assert "Windows-1252" in said[0]
    frame, _, said = read(write(tmp_path / "y.csv", ["größe,b", "1.5,2", "3,4"], "utf-16"))
    assert list(frame.columns) == ["größe", "b"]
    frame, _, said = read(write(tmp_path / "z.csv", ["größe,b", "1.5,2", "3,4"], "utf-8-sig"))
    assert list(frame.columns) == ["größe", "b"]
    assert not said


def test_what_is_no_table_is_refused(tmp_path):
    for content in ("", "\n\n"):
        (tmp_path / "x.csv").write_text(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_csv(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(InputError):
        load(tmp_path / "y.csv")
    with pytest.raises(InputError, match="one character"):
        read_csv(tmp_path / "x.csv", separator=";;")


def test_numbers_come_back_as_pandas_reads_them(tmp_path):
    frame = pd.DataFrame({"i": [1, 2, 3] * 9, "f": np.linspace(0, 1, 27), "t": list("abc") * 9})
    frame.to_csv(tmp_path / "x.csv", index=False)
    pd.testing.assert_frame_equal(read(tmp_path / "x.csv")[0], frame)


def test_only_columns_with_commas_have_decimal_commas(tmp_path):
    lines = ["day;ver;ip;x", *(f"{i % 28 + 1:02}.02.2024;{i}.5;10.0.0.{i};{i},5" for i in range(30))]
    frame, _, said = read(write(tmp_path / "x.csv", lines))
    assert frame["day"][3] == "04.02.2024"
    assert frame["ver"][3] == 3.5
    assert frame["ip"][3] == "10.0.0.3"
    assert frame["x"][3] == 3.5
    assert "decimal commas in 'x'" in said[0]


def test_commas_between_thousands_beside_decimal_points(tmp_path):
    frame, _, said = read(write(tmp_path / "x.csv", ["pop\tx", *(f"{12 + i},345\t{i}.25" for i in range(30))]))
    assert frame["pop"][0] == 12345
    assert frame["x"][3] == 3.25
    assert "commas between thousands in 'pop'" in said[0]


@pytest.mark.parametrize("separator", [None, ";"])
def test_decimal_commas_without_a_line_of_names(tmp_path, separator):
    frame, headless, _ = read(write(tmp_path / "x.csv", [f"{i},5;{i + 1},25" for i in range(30)]), separator=separator)
    assert headless
    assert frame.to_numpy().tolist() == [[i + 0.5, i + 1.25] for i in range(30)]


def test_decimal_commas_beside_missing_markers(tmp_path):
    frame, _, _ = read(write(tmp_path / "x.csv", ["a;b", *(f"{i},5;{i}" for i in range(30)), "-;7"]))
    assert frame["a"].tolist()[:2] == [0.5, 1.5]
    assert frame["a"].isna().tolist() == [False] * 30 + [True]


def test_wide_files_old_line_ends_blank_lines_and_quoted_ones(tmp_path):
    wide, _, _ = read(
        write(tmp_path / "w.csv", ["\t".join(f"gene{i}" for i in range(20_000)), "\t".join(["1.5"] * 20_000)])
    )
    assert wide.shape == (1, 20_000)
    (tmp_path / "mac.csv").write_bytes(b"a,b\r1,2\r3,4\r")
    assert read(tmp_path / "mac.csv")[0].to_numpy().tolist() == [[1, 2], [3, 4]]
    assert read(write(tmp_path / "b.csv", ["a,b", "1,2", "   ", "3,4"]))[0].dropna().to_numpy().tolist() == [
        [1, 2],
        [3, 4],
    ]
    quoted, _, _ = read(write(tmp_path / "q.csv", ["a,b", '"two', 'lines",1', "x,2"]))
    assert quoted["a"][0] == "two\nlines"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (["0 days 00:00:05", "3 days 04:00:00.5", "-1 days +23:59:58", ""], [5.0, 273600.5, -2.0, np.nan]),
        (["1 day", "2 days", "", "40 days"], [86400.0, 172800.0, np.nan, 3456000.0]),
        (["PT5S", "P3DT4H", "", "P1D"], [5.0, 273600.0, np.nan, 86400.0]),
    ],
)
def test_durations_are_durations(tmp_path, written, seconds):
    frame, _, said = read(write(tmp_path / "x.csv", ["took,x", *(f"{word},{i}" for i, word in enumerate(written))]))
    assert frame["took"].dtype.kind == "m"
    np.testing.assert_allclose(frame["took"].dt.total_seconds(), seconds)
    assert not said
    frame.to_csv(tmp_path / "again.csv", index=False)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "again.csv")[0], frame)


@pytest.mark.parametrize("words", [["12:30:00", "08:15:00"], ["P", "P"], ["5 days", "soon"], ["1 days 5", "2 days 5"]])
def test_what_only_looks_like_a_duration_stays_text(tmp_path, words):
    frame, _, _ = read(write(tmp_path / "x.csv", ["a,x", *(f"{word},{i}" for i, word in enumerate(words * 30))]))
    assert frame["a"].tolist() == words * 30


@pytest.mark.parametrize("day", ["2024-01-{:02d}", "2024/01/{:02d}", "{} days"])
def test_what_stands_for_a_missing_entry_leaves_times(tmp_path, day):
    days = [day.format(1 + j) for j in range(20)]
    lines = ["when,x", *(f"{each},{j}.5" for j, each in enumerate(["?", *days[1:], "Unknown"]))]
    frame, _, said = read(write(tmp_path / "x.csv", lines))
    assert frame["when"].dtype.kind in "mM"
    assert frame["when"].isna().to_numpy().nonzero()[0].tolist() == [0, 20]
    assert frame["when"][3] - frame["when"][1] == pd.Timedelta(days=2)
    assert "'?', 'Unknown' for missing entries of column 'when'" in said[0]


def test_zero_bytes_are_no_text(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,x\n" + b"2,\0\n" * 30)
    with pytest.raises(InputError, match="zero bytes"):
        read_csv(tmp_path / "x.csv")
