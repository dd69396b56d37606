"""Settings: the order of the layers, the origin of each value, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.config import Settings, fields, load_settings
from attunement.errors import ConfigError
from attunement.records import ModelConfig, TrainingConfig

ROOT = Path(__file__).resolve().parents[1]


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_contracts() -> None:
    settings = load_settings().settings
    assert settings.model.build() == ModelConfig(
        expert_domains=["psychology", "mental_health", "bias_detection"], target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
    )
    assert settings.training.build() == TrainingConfig()
    assert settings.data.target_balance == {
        "standard": 0.30, "edge_case": 0.25, "voice": 0.20, "knowledge": 0.15, "dual_persona": 0.10,
    }  # fmt: skip


def test_later_layers_win_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path, "[training]\nepochs = 5\nseed = 5\nbatch_size = 5\n")
    monkeypatch.setenv("ATTUNE_TRAINING__SEED", "6")
    monkeypatch.setenv("ATTUNE_TRAINING__BATCH_SIZE", "6")
    loaded = load_settings(path, ["training.batch_size=7"])
    training, origins = loaded.settings.training, loaded.origins
    assert (training.epochs, training.seed, training.batch_size, training.weight_decay) == (5, 6, 7, 0.01)
    assert origins["training.epochs"] == f"recipe {path}"
    assert origins["training.seed"] == "environment"
    assert origins["training.batch_size"] == "--set"
    assert origins["training.weight_decay"] == "default"


def test_every_setting_has_an_origin_and_a_description() -> None:
    origins = load_settings().origins
    for key, info in fields():
        assert key in origins
        assert info.description, f"{key} has no description"


def test_tables_and_lists_are_values(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[data]\nlicence_allow = ['R']\n[data.target_balance]\nstandard = 0.5\nvoice = 0.5\n")
    loaded = load_settings(path, ['model.expert_domains=["grief"]'])
    assert loaded.settings.data.target_balance == {"standard": 0.5, "voice": 0.5}
    assert loaded.settings.data.licence_allow == ["R"]
    assert loaded.settings.model.expert_domains == ["grief"]


def test_text_needs_no_quotes_on_the_command_line() -> None:
    assert load_settings(overrides=["model.base=some/model"]).settings.model.base == "some/model"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["training.epoch=2"], "unknown setting 'training.epoch' (--set); did you mean 'training.epochs'?"),
        (["training.epochs"], "--set takes section.key=value, not 'training.epochs'"),
        (["training.epochs=many"], "setting 'training.epochs' (--set): "),
        (["training.epochs=0"], "got 0"),
        (["model.top_k=99"], "top_k (99) must be at most num_experts (8)"),
        (["data.target_balance={standard = 0.4}"], "add up to 1"),
        (["data.target_balance={nonsense = 1.0}"], "must name only standard"),
    ],
)
def test_a_wrong_override_is_one_sentence(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(overrides=overrides)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'model\.lora_rank'"):
        load_settings(recipe(tmp_path, "[model]\nlora_rnak = 3\n"))
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(recipe(tmp_path, "[model\n"))
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_settings(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", ["ATTUNE_SERVING__PROT", "attune_serving__prot", "Attune_Serving__Prot"])
def test_an_unknown_variable_has_one_text_however_it_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "80")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value) == f"unknown setting 'serving.prot' (environment variable {name}); did you mean 'serving.port'?"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("serving.port", "many", "Input should be a valid integer"),
        ("data.target_balance", "{not json", "should be valid JSON"),
        ("data.licence_allow", "R", "should be valid JSON"),
        ("data.licence_allow", '["Q"]', "Input should be 'R', 'SA', 'NC', 'N' or 'unknown'"),
    ],
)
def test_a_wrong_value_in_the_environment_names_its_variable(
    key: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "ATTUNE_" + key.replace(".", "__").upper()
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"setting '{key}") and f" (environment variable {variable}): {told}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_kind_of_value_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_HOME", "/somewhere")
    monkeypatch.setenv("ATTUNE_DATA__LICENCE_ALLOW", '["R", "SA"]')
    monkeypatch.setenv("ATTUNE_DATA__TARGET_BALANCE", '{"standard": 0.5, "voice": 0.5}')
    monkeypatch.setenv("ATTUNE_SERVING__MESSAGES", "help.toml")
    monkeypatch.setenv("attune_serving__temperature", "0.25")
    settings = load_settings().settings
    assert (settings.home, settings.serving.messages) == (Path("/somewhere"), Path("help.toml"))
    assert settings.data.licence_allow == ["R", "SA"] and settings.serving.temperature == 0.25
    assert settings.data.target_balance == {"standard": 0.5, "voice": 0.5}


def test_settings_never_change() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.home = Path("/elsewhere")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_loads(path: Path) -> None:
    loaded = load_settings(path)
    assert f"recipe {path}" in loaded.origins.values()


def test_the_full_run_has_the_contracts_figures() -> None:
    settings = load_settings(ROOT / "recipes" / "h100-12h.toml").settings
    training, model = settings.training, settings.model
    assert model.base.startswith("Qwen/")
    assert (training.max_duration_hours, training.batch_size, training.warmup_steps) == (12, 32, 1000)
    assert (model.num_experts, model.context_length, model.lora_rank, model.lora_alpha) == (8, 8192, 16, 32)
