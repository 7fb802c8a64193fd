"""Profiles are complete, and say what is wrong with them."""

from pathlib import Path

import pytest

from hgisam.config.profile import load_profile, profile_names
from hgisam.errors import InputError


def test_shipped_profiles_load_and_hold_the_same_keys() -> None:
    assert profile_names() == ["laptop", "paper", "smoke"]
    shapes = {name: set(load_profile(name).model_dump()) for name in profile_names()}
    assert len({frozenset(keys) for keys in shapes.values()}) == 1
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.data.image_px == 32 * profile.model.window_tokens


def test_overrides() -> None:
    profile = load_profile("smoke", ["train.epochs=7", "windows.0.center_hu=50", "train.learning_rate=1e-3"])
    assert (profile.train.epochs, profile.windows[0].center_hu, profile.train.learning_rate) == (7, 50.0, 1e-3)


def test_a_training_s_overrides_are_overridden_by_their_names() -> None:
    unet = load_profile("smoke", ["study.trainings.unet.train.epochs=9"]).variant("unet")
    assert unet.train.epochs == 9
    with pytest.raises(InputError, match=r"study\.trainings\.unet\.train\.epoch: .* Did you mean"):
        load_profile("smoke", ["study.trainings.unet.train.epoch=9"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "Did you mean epochs"),
        ("trian.epochs=3", "Did you mean train"),
        ("windows.9.name=x", "unknown key"),
        ("train.epochs", "section.key=value"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs=0", "greater than 0"),
        ("model.window_tokens=3", "windows tile every stage"),
        ("segmenter.channels=[8,8,8,8,8,8,8]", "multiple of 64, at least 128"),
        ("maps.methods=[hgisam]", "maps.methods"),
        ("train.clip_norm=.inf", "train.clip_norm: .* finite number"),
        ("windows.0.center_hu=.nan", "center_hu: .* finite number"),
        ("seed=18446744073709551616", "seed"),
        ("seed=2024-13-45", "--set seed: got no valid YAML"),
        ("train.augment.hide_cells=1000000", "hide_cells"),
        ("train.augment.rotate_deg=1e308", "rotate_deg"),
        ("data.folds=2", "data.folds"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_profile("smoke", [override])


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean laptop"):
        load_profile("labtop")
    file = tmp_path / "mine.yaml"
    for text, message in [("- 1", "YAML mapping"), ("a: [", "no valid YAML"), ("name: x", "nothing")]:
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            load_profile(file)
    shipped = Path(load_profile.__code__.co_filename).parent / "profiles" / "smoke.yaml"
    file.write_text(shipped.read_text().replace("\n  epochs:", "\n  epoch:", 1))
    with pytest.raises(InputError, match="Did you mean epochs"):
        load_profile(file)


def test_a_variant_changes_what_its_training_says() -> None:
    profile = load_profile("smoke", ["study.trainings={wide: {model.channels: 48, model.heads.0: 3}}"])
    wide = profile.variant("wide", ["seed=9"])
    assert (wide.model.channels, wide.model.heads[0], wide.seed) == (48, 3, 9)  # type: ignore[index]
    assert wide.train == profile.train
    assert profile.model.channels != 48


def test_a_network_that_knows_no_checkpointing_is_trained_without_it() -> None:
    profile = load_profile("smoke", ["compute.checkpointing=true"])
    assert profile.compute.checkpointing
    assert profile.variant("subtype").compute.checkpointing
    assert not profile.variant("unet").compute.checkpointing
    asked = load_profile(
        "smoke", ["study.trainings={own: {task: segmentation, train.monitor: dice, compute.checkpointing: true}}"]
    )
    assert asked.variant("own").compute.checkpointing  # a training that asks for it is told that it can't be


def test_a_variant_that_does_not_exist_or_fit() -> None:
    profile = load_profile("smoke", ["study.trainings={wrong: {train.epoch: 3}}"])
    with pytest.raises(InputError, match="not in study"):
        profile.variant("unknown")
    with pytest.raises(InputError, match="Did you mean epochs"):
        profile.variant("wrong")


@pytest.mark.parametrize("name", profile_names())
def test_every_training_of_a_shipped_profile_fits(name: str) -> None:
    profile = load_profile(name)
    assert [profile.variant(training).name for training in profile.study.trainings] == [name] * len(
        profile.study.trainings
    )
