"""Texts that are hard to read: each ends in a finding with its place, none in a traceback."""

import json

import pytest

from pipeline.runbook.lint import source
from pipeline.runbook.lint.node import Node, Span


def read(text: str) -> Node:
    return source.read(text)[0]


def refused(content: bytes | str) -> tuple[str, Span]:
    with pytest.raises(source.Unreadable) as caught:
        source.read(content if isinstance(content, str) else source.decode(content))
    return str(caught.value), caught.value.found.span


def test_a_key_and_its_value_know_their_place_in_yaml() -> None:
    root = read('a: 1\nlist:\n  - {name: "x y"}\n')
    name = root.items["list"].values[0].items["name"]
    assert root.key("list") == Span(2, 1, 2, 5)
    assert name.span == Span(3, 12, 3, 17)
    assert name.at(2) == Span(3, 15, 3, 16)


def test_a_key_and_its_value_know_their_place_in_json() -> None:
    root = read('{"a": 1,\n\t"list": [{"name": "x y"}]}')
    name = root.items["list"].values[0].items["name"]
    assert root.key("list") == Span(2, 2, 2, 8)
    assert name.span == Span(2, 20, 2, 25)
    assert name.at(2) == Span(2, 23, 2, 24)


@pytest.mark.parametrize("indicator", ["|", "|-", "|+", "|2-"])
def test_lines_of_a_block_are_lines_of_the_file(indicator: str) -> None:
    node = read(f"script: {indicator}\n  one\n    two\n\n  three\n").items["script"]
    assert node.at_line(2, 2, 3) == Span(3, 5, 3, 8)
    assert node.at(node.string.index("three"), 5) == Span(5, 3, 5, 8)


def test_a_block_that_begins_with_empty_lines() -> None:
    node = read("script: |\n\n\n  one\n").items["script"]
    assert node.at(node.string.index("one"), 3) == Span(4, 3, 4, 6)


def test_values_keep_the_kind_that_yaml_gives_them() -> None:
    root = read("a: 1\nb: 'true'\nc: yes\nd: 1.5\ne:\nf: 2020-01-01\ng: [1]\n")
    kinds = {key: node.kind for key, node in root.items.items()}
    expected = {"a": "integer", "b": "string", "c": "boolean", "d": "float", "e": "null", "f": "string", "g": "list"}
    assert kinds == expected
    assert root.items["c"].scalar is True


def test_json_is_read_as_python_does() -> None:
    value = {"a": [1, -2.5e3, True, None, 'ü😀"\\/'], "b": {}, "c": []}
    assert read(json.dumps(value)).plain() == value


def test_a_yaml_flow_mapping_is_no_broken_json() -> None:
    assert read("{schemaVersion: '0.3'}").plain() == {"schemaVersion": "0.3"}


def test_merge_keys_are_merged() -> None:
    assert read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n").items["b"].plain() == {"x": 1, "y": 3}


def test_a_cyclic_alias_is_cut() -> None:
    root, found = source.read("a: &a\n  b: *a\n")
    assert [(item.rule, item.span.line) for item in found] == [("cyclic-alias", 1)]
    assert list(root.walk())


def test_aliases_of_aliases_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "values large" in refused("\n".join(lines))[0]


@pytest.mark.parametrize("text", ["[" * 5000, "{" + '"a":{' * 5000, "a: " + "[" * 5000, "- " * 3000])
def test_a_deep_text_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x01\x02", "NUL"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"x" * (source.MAX_BYTES + 1), "at most"),
        (b"", "empty"),
        (b"# nothing\n", "empty"),
        (b"a: [1\nb: 2\n", "not YAML"),
        (b"a: *nothing\n", "undefined alias"),
        (b"%TAG ! !\n", "not YAML"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
        (b'{"a": 1,}', "a key in quotes"),
        (b'{"a" 1}', "a colon"),
        (b'{"a": 1 "b": 2}', "a comma or }"),
        (b'{"a": [1 2]}', "a comma or ]"),
        (b'{"a": "x', "Unterminated"),
        (b'{"a": }', "a value is wanted"),
        (b'{"a": 1} x', "there is more"),
    ],
)
def test_what_is_no_document_says_so(content: bytes, message: str) -> None:
    assert message in refused(content)[0]


def test_a_fault_of_json_has_its_place() -> None:
    assert refused('{"a": 1,\n  "b" 2}')[1][:2] == (2, 7)


def test_a_fault_of_yaml_has_its_place() -> None:
    assert refused("a: 1\nb: [\n")[1].line == 3


def test_a_key_that_is_no_text() -> None:
    assert [item.rule for item in source.read("? [a, b]\n: 1\n")[1]] == ["wrong-type"]


def test_numbers_that_are_none_stay_texts() -> None:
    assert read("a: !!int x\nb: !!float y\nc: !!bool z\n").items["a"].kind == "string"
