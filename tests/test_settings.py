"""Automatic settings: a pure function of the wish, the data and the base."""

from pathlib import Path

import pytest

from pipeline.bases.reference import Reference
from pipeline.common.errors import BadInput
from pipeline.made.conversations import Statistics
from pipeline.spec import spec
from pipeline.stages.settings import settings


def base(parameters: int) -> Reference:
    return Reference(
        origin="directory",
        format="huggingface",
        files={},
        name="x",
        digest="0" * 64,
        path=Path("/x"),
        architecture="LlamaForCausalLM",
        parameters=parameters,
        context=8192,
    )


def rows(count: int, without_system: int | None = None) -> Statistics:
    left = count if without_system is None else without_system
    return Statistics(rows=count, answers=count, characters=count * 300, without_system=left)


def read(folder: Path, *sets: str, **more: str) -> spec.Spec:
    return spec.read("brand", folder, sets=sets, **more)


def test_more_rows_are_read_fewer_times(tmp_path: Path) -> None:
    wish = read(tmp_path)
    epochs = [settings(wish, rows(n), base(135_000_000)).tune.epochs for n in (10, 50, 200, 1000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 1


def test_a_bigger_base_learns_more_slowly(tmp_path: Path) -> None:
    rates = [
        settings(read(tmp_path), rows(200), base(size)).tune.learning_rate
        for size in (135_000_000, 1_200_000_000, 8_000_000_000, 70_000_000_000)
    ]
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 <= rates[-1] <= rates[0] <= 2e-3


def test_larger_steps_are_taken_faster_up_to_twice(tmp_path: Path) -> None:
    def rate(batch: int) -> float:
        wish = read(tmp_path, f"tune.batch={batch}")
        return settings(wish, rows(200), base(135_000_000)).tune.learning_rate

    assert [rate(batch) for batch in (1, 4, 6, 8, 64)] == [1e-3, 1e-3, 1.5e-3, 2e-3, 2e-3]


def test_small_models_keep_eight_bits(tmp_path: Path) -> None:
    def chosen(size: int) -> str:
        return settings(read(tmp_path), rows(200), base(size)).pack.quantization

    assert chosen(999_999_999) == "Q8_0"
    assert chosen(1_000_000_000) == "Q4_K_M"


def test_four_bits_where_sixteen_do_not_fit_the_gpu(tmp_path: Path) -> None:
    def chosen(size: int, gpu: int | None) -> str:
        return settings(read(tmp_path), rows(200), base(size), gpu).tune.load

    assert chosen(8_000_000_000, 24_000_000_000) == "16-bit"
    assert chosen(14_000_000_000, 24_000_000_000) == "4-bit"
    assert chosen(14_000_000_000, None) == "16-bit"
    with pytest.raises(BadInput, match="needs a GPU"):
        settings(read(tmp_path, "tune.load=4-bit"), rows(200), base(1), None)


def test_long_rows_make_small_batches(tmp_path: Path) -> None:
    def batch(characters: int) -> int:
        statistics = rows(400).model_copy(update={"characters": 400 * characters})
        return settings(read(tmp_path), statistics, base(1)).tune.batch

    assert [batch(300), batch(12_000), batch(100_000)] == [8, 2, 1]


def test_system_is_a_setting_only_where_rows_use_it(tmp_path: Path) -> None:
    (tmp_path / "brand.Modelfile").write_text('FROM embedded:x\nSYSTEM "Be kind."\n')
    wish = read(tmp_path)
    assert settings(wish, rows(50), base(1)).prepare.system == "Be kind."
    assert settings(wish, rows(50, without_system=0), base(1)).prepare.system == ""


def test_a_flag_wins_over_the_toml_and_the_toml_over_the_automatic(tmp_path: Path) -> None:
    (tmp_path / "brand.toml").write_text("[tune]\nepochs = 7\nrank = 4\n")
    chosen = settings(read(tmp_path, "tune.epochs=2"), rows(200), base(135_000_000)).tune
    assert (chosen.epochs, chosen.rank, chosen.alpha) == (2, 4, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tune.epoch=3", "unknown key 'epoch'"),
        ("tun.epochs=3", "unknown table 'tun'"),
        ("tune.epochs", "not of the form"),
        ("epochs=3", "not of the form"),
        ("tune.epochs=many", "tune.epochs=many: Input should be a valid integer"),
        ("tune.epochs=0", "tune.epochs=0: Input should be greater than"),
        ("tune.learning_rate=2", "tune.learning_rate=2: Input should be less"),
    ],
)
def test_a_wrong_set_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert error.value.next_step


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tune]\nepoch = 3\n", "brand.toml:2: unknown key 'epoch'"),
        ("\n[tuning]\n", "brand.toml:2: unknown table 'tuning'"),
        ("epochs = 3\n", "brand.toml:1: unknown key 'epochs'"),
        ("[tune\n", "line 1"),
        ('[tune]\nepochs = "x"\n', "brand.toml:2: tune.epochs = 'x': Input should"),
    ],
)
def test_a_wrong_toml_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "brand.toml").write_text(text)
    with pytest.raises(BadInput) as error:
        read(tmp_path)
    assert words in str(error.value)


def test_the_starter_toml_is_read_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "brand.toml").write_text(spec.starter())
    (tmp_path / "none").mkdir()
    assert read(tmp_path) == read(tmp_path / "none")


def test_every_key_has_a_sentence() -> None:
    for table in spec.TABLES.values():
        assert all(field.description for field in table.model_fields.values())


def test_the_name_must_differ_from_the_base(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read(tmp_path, base="brand")


def test_a_template_is_asked_for_by_flag_or_toml(tmp_path: Path) -> None:
    assert read(tmp_path).fetch.template is None
    assert read(tmp_path, template="plain").fetch.template == "plain"
    (tmp_path / "brand.toml").write_text('[fetch]\ntemplate = "chatml"\n')
    assert read(tmp_path).fetch.template == "chatml"
    with pytest.raises(BadInput, match="--template fancy"):
        read(tmp_path, template="fancy")


def test_rows_with_thoughts_are_trained_with_them_and_others_without(tmp_path: Path) -> None:
    thinks = base(1).model_copy(update={"can_think": True})
    wish, plain = read(tmp_path), rows(50)
    thoughtful = plain.model_copy(update={"thoughts": 3})
    found = [
        settings(wish, some, of).fetch.thinking
        for some in (plain, thoughtful)
        for of in (base(1), thinks)
    ]
    assert found == ["", "off", "on", "on"]
