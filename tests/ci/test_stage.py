"""Staged sources of the site: chapters with their facts, generated pages, launch buttons."""

import copy
from pathlib import Path

import nbformat
import pytest

import facts
import render
from hgisam.config.overrides import read_yaml
from hgisam.errors import InputError
from hgisam.runs.files import write_json
from hgisam_book.ledger import read_summary
from hgisam_book.recorded.reuse import RECORDED, reuse_note
from steps import FIRST, STEPS

BOOK = Path(render.__file__).parent
CHAPTERS = sorted(BOOK.glob("[0-9]*.ipynb"))
SUMMARY = read_summary(BOOK / "recorded" / "laptop-2-cores")


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    render.stage(tmp_path / "source", CHAPTERS, SUMMARY)
    return tmp_path / "source"


def test_there_are_launch_buttons_where_the_repository_has_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_yaml(BOOK.parent / "_config.yml", "_config.yml")
    for repository in ({}, {"repository": {"url": ""}}, {"repository": {"url": "https://github.com/someone/book"}}):
        config = {key: value for key, value in config.items() if key != "repository"} | repository
        url = repository.get("repository", {}).get("url", "")
        monkeypatch.setattr(render, "read_yaml", lambda *_, given=config: copy.deepcopy(given))
        render.stage(tmp_path / "source", CHAPTERS, SUMMARY)
        staged_config = read_yaml(tmp_path / "source" / "_config.yml", "_config.yml")
        options = staged_config["sphinx"]["config"]["html_theme_options"]
        assert options.get("repository_url", "") == url
        assert ("launch_buttons" in options) == options["use_repository_button"] == bool(url)
    assert set(options["launch_buttons"]) == {"binderhub_url", "colab_url"}
    assert all((BOOK.parent / options["path_to_docs"] / path.name).is_file() for path in CHAPTERS)


def test_each_chapter_shows_how_to_run_it_and_has_an_exercise_notebook(staged: Path) -> None:
    for path in CHAPTERS:
        chapter = nbformat.read(staged / "book" / path.name, as_version=4)
        foot = next(cell.source for cell in chapter.cells if cell.id == "run-this")
        assert f"papermill book/{path.name} out.ipynb" in foot
        assert all(f"| `{name}` |" in foot for name in facts.parameters_of(nbformat.read(path, as_version=4)))
        assert chapter.cells[0].source.count("| **Running time** |") == 1  # measured, and none that was typed
        assert (staged / "book" / "exercises" / path.name).is_file()


def test_reused_networks_are_stated_beside_the_run_time(tmp_path: Path) -> None:
    hardware = {"processor": "EPYC", "cores": 2, "memory_gib": 24, "gpu": []}
    manifest = {"hardware": hardware, "git_revision": "0" * 40, "duration_s": 60.0}
    record = {"run": "first", "manifest": manifest, "metric": "val_auroc", "then": 0.9, "now": 0.9001}
    write_json(tmp_path / RECORDED, record)
    for folders, reused in (([tmp_path, tmp_path / "other"], "1 of 2 networks"), ([tmp_path / "other"], "")):
        chapter = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell("# A\n\n| | |\n| --- | --- |\n| a | b |")]
        )
        note = nbformat.v4.new_output("display_data", {"text/markdown": reuse_note(folders)})
        chapter.cells += [
            nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell("", outputs=[note]),
        ]
        assert facts.reused_networks(chapter) == reused
        assert facts.reused_networks(nbformat.v4.new_notebook(cells=chapter.cells * 2)) == reused.replace(
            "1 of 2", "2 of 4"
        )
        assert (f"; {reused} reused |" in facts.run_page({"10_a": chapter}, {})) == bool(reused)
        head = facts.with_facts(chapter, "10_a").cells[0].source
        assert (f"{reused} were reused from a recorded run" in head) == bool(reused)


def test_a_recorded_running_time_is_told_with_its_machine() -> None:
    chapter = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A\n\n| | |\n| --- | --- |\n| a | b |"),
            nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]}),
        ],
        metadata={"papermill": {"duration": 61.0, "parameters": {"profile": "smoke"}}},
    )
    records = [
        {"name": "older", "hardware": "a CPU"},
        {"name": "laptop-2-cores", "hardware": "an EPYC", "chapters_s": {"10_a": 125.4, "11_b": 3.0}},
    ]
    head = facts.with_facts(chapter, "10_a", records).cells[0].source
    assert (
        "| **Running time** | 1 min 1 s with the profile `smoke`, on an unknown machine; "
        "2 min 5 s in the recorded run `laptop-2-cores`, on an EPYC |"
    ) in head
    assert facts.recorded_time("12_c", records) == ""


def test_every_page_of_the_contents_is_there(staged: Path) -> None:
    contents = (staged / "book" / "_toc.yml").read_text()
    for line in contents.splitlines():
        if line.strip().startswith("- file: "):
            name = line.split(": ")[1]
            assert any((staged / "book" / f"{name}{ending}").is_file() for ending in (".md", ".ipynb")), name


def test_chapters_that_are_still_running_have_a_page(tmp_path: Path) -> None:
    render.stage(tmp_path / "source", [path for path in CHAPTERS if path.stem in FIRST], SUMMARY)
    pages = {path.stem: path for path in (tmp_path / "source" / "book").glob("[0-9]*")}
    assert {pages[name].suffix for name in FIRST} == {".ipynb"}
    waiting = pages.keys() - {*FIRST}
    assert waiting == STEPS.keys() - {*FIRST}
    assert {pages[name].suffix for name in waiting} == {".md"}
    text = pages["11_baselines"].read_text()
    assert text.startswith(render.title_of(nbformat.read(BOOK / "11_baselines.ipynb", as_version=4)), 2)
    assert "still running" in text
    assert "11_baselines" not in (tmp_path / "source" / "book" / "what_this_run_was.md").read_text()


def test_the_key_is_on_the_site_only_if_asked_for(staged: Path, tmp_path: Path) -> None:
    assert not (staged / "book" / "key.md").exists()
    assert "key" not in (staged / "book" / "_toc.yml").read_text().split()
    assert "`key`" not in (staged / "book" / "teaching.md").read_text()
    render.stage(tmp_path / "with-key", CHAPTERS, SUMMARY, key=True)
    assert (tmp_path / "with-key" / "book" / "key.md").read_text().startswith("# Answer key")
    parts = read_yaml(tmp_path / "with-key" / "book" / "_toc.yml", "_toc.yml")["parts"]
    assert [{"file": "teaching"}, {"file": "key"}] in [part["chapters"] for part in parts]


def test_a_chapter_has_the_number_of_its_file() -> None:
    """Sphinx numbers chapters by the table of contents, exercises by the file name: both must agree."""
    parts = read_yaml(BOOK / "_toc.yml", "_toc.yml")["parts"]
    counted = [entry["file"] for part in parts if part.get("numbered") for entry in part["chapters"]]
    assert [int(name.split("_")[0]) for name in counted] == list(range(1, len(CHAPTERS) + 1))
    assert counted == [path.stem for path in CHAPTERS]


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_invalid_chapter_is_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "01_x.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"01_x\.ipynb: got unreadable"):
        render.stage(tmp_path / "source", [path], SUMMARY)
