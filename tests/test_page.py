"""A report in a browser: it opens from disk, asks for nothing, and everybody can read it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from reported import full
from test_report import hostile_report

from pipeline.evaluation.page.page import write
from pipeline.setup.browser import found

CHROMIUM = found()
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium here: make setup-tests, or apt-get install chromium"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="no playwright: make setup-tests"
    ),
    pytest.mark.browser,
]
SCHEMES = ("light", "dark")
FOCUSED = """() => {
    const it = document.activeElement, look = getComputedStyle(it);
    const at = [...document.querySelectorAll("summary")].indexOf(it);
    return [at, at >= 0 && it.parentElement.open, look.outlineStyle + " " + look.outlineWidth];
}"""
"""Which summary has the focus, whether it is unfolded, and how the focus looks."""


@dataclass
class Opened:
    """A page in the browser, and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    every = {"full": full(), "hostile": hostile_report(4)}
    return {name: write(report, folder / f"{name}.html") for name, report in every.items()}


@pytest.fixture
def opened(browser: Any, files: dict[str, Path]) -> Iterator[Any]:
    contexts = []

    def open_(name: str = "full", width: int = 1280, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("dialog", lambda dialog: found.said.append(dialog.message))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(files[name].as_uri())
        return found

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["full", "hostile"])
def test_it_says_nothing_and_asks_for_nothing_but_itself(
    opened: Any, files: dict[str, Path], name: str
) -> None:
    it = opened(name)
    it.page.wait_for_timeout(100)  # an image or a script would be asked for by now
    assert it.said == []
    assert it.asked == [files[name].as_uri()]
    assert it.page.evaluate("document.scripts.length + document.images.length") == 0


def test_what_strangers_wrote_is_text_and_no_element(opened: Any) -> None:
    page = opened("hostile").page
    text = page.evaluate("document.querySelector('#rows').textContent")
    assert "</script><script>alert(1)</script>" in text
    assert "<img src=x onerror=alert(2)>" in text
    assert page.locator("#rows :is(script, img, iframe, object, form, a)").count() == 0


def test_a_script_that_came_in_all_the_same_would_not_run(opened: Any) -> None:
    it = opened()
    it.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); }"
    )
    assert it.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in line for line in it.said)


@pytest.mark.parametrize(
    ("name", "scheme"), [("full", "light"), ("full", "dark"), ("hostile", "light")]
)
def test_axe_finds_nothing_serious(opened: Any, name: str, scheme: str) -> None:
    from axe_playwright_python.base import AXE_FILE_PATH

    page = opened(name, scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(Path(AXE_FILE_PATH).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == []


@pytest.mark.parametrize("name", ["full", "hostile"])
def test_a_phone_scrolls_in_one_direction(opened: Any, name: str) -> None:
    page = opened(name, width=360).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_all_that_unfolds_does_so_by_keyboard(opened: Any) -> None:
    page = opened().page
    reached, seen = set(), False
    for _ in range(90):
        page.keyboard.press("Tab")
        at, is_open, outline = page.evaluate(FOCUSED)
        if at >= 0:
            if not is_open:
                page.keyboard.press("Enter")
                assert page.evaluate(FOCUSED)[1]
            reached.add(at)
            seen = seen or outline == "solid 3px"
    assert reached == set(range(page.locator("summary").count()))
    assert seen


def test_rows_that_are_worse_are_told_apart_without_a_script(opened: Any) -> None:
    page = opened("hostile").page
    every, worse = page.locator(".row").count(), page.locator(".row.worse").count()
    assert 0 < worse < every
    page.locator("#only-worse").check()
    assert page.locator(".row:visible").count() == worse
    page.locator("#only-all").check()
    assert page.locator(".row:visible").count() == every


def test_paper_shows_what_is_folded(opened: Any) -> None:
    page = opened().page
    hidden = page.locator(".row:not([open]) .inside").first
    assert not hidden.is_visible()
    page.emulate_media(media="print")
    assert hidden.is_visible()
    assert not page.locator("nav").is_visible()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_can_be_looked_at(opened: Any, tmp_path: Path, width: int, scheme: str) -> None:
    page = opened(width=width, scheme=scheme).page
    picture = page.screenshot(path=str(tmp_path / f"{width}-{scheme}.png"), full_page=True)
    assert len(picture) > 50_000
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(20, 22, 26)") is (scheme == "dark")
