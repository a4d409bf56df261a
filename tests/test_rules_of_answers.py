"""Rules of the user's in the toml: mistakes have a place, and every answer is held to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.spec import spec
from pipeline.spec.rules import Rule


def read(folder: Path, text: str) -> tuple[Rule, ...]:
    (folder / "brand.toml").write_text(text)
    return spec.evaluate_table("brand", folder).rules


# what is written


def test_a_rule_is_two_lines(tmp_path: Path) -> None:
    (rule,) = read(tmp_path, '[evaluate.rules.no-discounts]\nlacks = "discount"\n')
    assert (rule.name, rule.lacks, rule.max_broken) == ("no-discounts", ("discount",), 0.1)


def test_the_table_stands_beside_its_rules(tmp_path: Path) -> None:
    text = '[evaluate]\npolicy = "strict"\nrequire_examples = true\nenabled = false\n'
    (tmp_path / "brand.toml").write_text(text + "[evaluate.rules.a]\nlongest = 80\n")
    found = spec.read("brand", tmp_path).evaluate
    assert (found.policy, found.require_examples, found.enabled) == ("strict", True, False)
    assert [rule.longest for rule in found.rules] == [80]
    missing = spec.evaluate_table("nobody", tmp_path)
    assert (missing.policy, missing.require_examples, missing.enabled) == ("harm", False, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[evaluate]\npolcy = 'harm'\n", "brand.toml:2: unknown key 'polcy'"),
        ("[evaluate]\npolicy = 'kind'\n", "brand.toml:2: evaluate.policy = 'kind': Input should"),
        ("[evaluate.rules.a]\nlongest = 5\nlack = 'x'\n", "brand.toml:3: unknown key 'lack'"),
        ("\n[evaluate.rules.a]\n", "brand.toml:2: the rule a says nothing"),
        ("[evaluate.rules.a]\nmax_broken = 0.5\n", "brand.toml:1: the rule a says nothing"),
        ("[evaluate.rules.'a b']\npattern = '['\n", "brand.toml:2: rules.a b.pattern = '[': "),
        ("[evaluate.rules.a]\nlongest = 0\n", "brand.toml:2: rules.a.longest = 0: Input should"),
        ("[evaluate.rules.a]\nlacks = ['']\n", "an empty text stands in every answer"),
        ("[evaluate.rules.a]\nschema = 'no.json'\n", "brand.toml:2: "),
        ("[evaluate]\nrules = 3\n", "brand.toml:2: rules are tables"),
        ("[evaluate.rules]\na = 'x'\n", "brand.toml:2: a is no table"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert error.value.next_step


def test_rules_are_not_set_by_a_flag(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="rules stand in the toml"):
        spec.read("brand", tmp_path, sets=("evaluate.rules=x",))
    assert spec.read("brand", tmp_path, sets=("evaluate.policy=strict",)).evaluate.policy


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "https://example.com/s.json"}, "refers to https://example.com/s.json: nothing"),
        ({"properties": {"a": {"items": {"$ref": "other.json"}}}}, "refers to other.json"),
        ({"type": 3}, "is no JSON schema"),
    ],
)
def test_a_schema_that_leads_elsewhere_is_refused(tmp_path: Path, schema: object, words: str):
    (tmp_path / "s.json").write_text(json.dumps(schema))
    with pytest.raises(BadInput, match=words):
        read(tmp_path, "[evaluate.rules.a]\nschema = 's.json'\n")
