"""Text files that are read: what is wrong is one line with the file's name."""

import pytest
import yaml

from go2_sevpo.runs.reading import read_json, read_mapping, read_yaml


def test_what_is_right_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None]}
    (tmp_path / "a.yaml").write_text("a: [1, 2.5, off]\nb: \u00e4\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, 2.5, False], "b": "\u00e4"}
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_mapping(tmp_path / "empty.yaml") == {}
    assert read_yaml(tmp_path / "empty.yaml") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b" 2}', "f is not valid JSON: Expecting ':' delimiter in line 2"),
        (b"\xff\xfe", r"f is not text in UTF-8 \(byte 0\)"),
        (b"[" * 100_000, "f is nested too deeply, expected plain JSON"),
        (b"1" * 10_000, "f is not valid JSON"),
    ],
)
def test_json_that_is_wrong(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    if content.startswith(b"1"):
        try:
            int("1" * 10_000)
        except ValueError:
            pass
        else:
            pytest.skip("this Python reads numbers of any length")
    with pytest.raises(ValueError, match=message) as error:
        read_json(tmp_path / "f")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: [1,\n", "f is not valid YAML: .* in line 3"),
        (b"a: !!python/object/apply:os.system [ls]", "f is not valid YAML: could not determine"),
        (b"a: \x00", "f is not valid YAML"),
        (b"- 1\n- 2\n", r"f holds \[1, 2\], expected names with values"),
        (b"1: 2\n", r"f holds \{1: 2\}, expected names with values"),
        (b"a: 2001-99-99\n", "f is not valid YAML"),
    ],
)
def test_yaml_that_is_wrong(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_mapping(tmp_path / "f")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing")


def test_the_loader_asked_for_is_used(tmp_path):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!here", lambda loader, node: "made by it")
    (tmp_path / "f").write_text("a: !here x\n")
    assert read_yaml(tmp_path / "f", Loader) == {"a": "made by it"}
