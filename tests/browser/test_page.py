"""The report in a real browser, as a person gets it: a file, opened without any network."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import ROOT, Gate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"

# WCAG 2's contrast of an element's text with what is behind it
CONTRAST = """element => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = element;
  while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0)
    behind = behind.parentElement;
  const [a, b] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
    .map(rgb).map(light).sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def report(gate: Gate, tmp_path: Path) -> Path:
    """The page of the recorded broken upgrade."""
    run = gate(f"--snapshot={ROOT}/demo/broken.json.gz")
    assert run.code == 1, run.out
    return tmp_path / "reports/index.html"


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """That page, opened; whatever it asks of the network or complains about fails the test."""
    context = browser.new_context(color_scheme=request.param, offline=True)
    opened = context.new_page()
    url = report.as_uri()
    trouble: list[str] = []
    opened.on("console", lambda message: trouble.append(message.text))
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("request", lambda asked: trouble.append(asked.url) if asked.url != url else None)
    opened.goto(url)
    yield opened
    assert trouble == []
    opened.screenshot(path=report.with_name(f"{request.param}.png"), full_page=True)
    context.close()


def test_the_verdict_is_what_one_sees_first(page: Page) -> None:
    verdict = page.get_by_role("status")

    assert "GATE CLOSED" in verdict.inner_text()
    box = verdict.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 200


def test_the_verdict_is_the_pages_heading(page: Page) -> None:
    (heading,) = page.get_by_role("heading", level=1).all()

    assert heading.inner_text().startswith("GATE CLOSED")


def test_failures_come_before_all_else(page: Page) -> None:
    headings = page.locator("main h2").all_inner_texts()

    assert headings[:2] == ["What closes the gate", "The mesh at a glance"]
    assert "PC101" in page.locator("main article").first.inner_text()


def test_every_text_can_be_read(page: Page) -> None:
    texts = page.locator("main :is(p, small, h1, h2, h3, b, dt, dd, td, th, li, summary)").all()
    texts += page.locator("#results-table :is(td, th, .log)").all()

    poor = [each.inner_text() for each in texts if each.evaluate(CONTRAST) < 4.5]

    assert texts
    assert poor == []


def test_a_checks_page_is_reached_and_opened_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "What PC101 proves, and what to do"

    page.keyboard.press("Enter")

    assert page.get_by_text("Why it matters").first.is_visible()


def test_what_is_drawn_is_said_too(page: Page) -> None:
    drawn = page.get_by_role("img").first

    assert "1 rejected" in (drawn.get_attribute("aria-label") or "")


def test_paper_shows_what_a_click_would(page: Page) -> None:
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert page.get_by_text("Why it matters").first.is_visible()
    assert not page.locator("#results-table").is_visible()


def test_a_narrow_window_does_not_cut_it_off(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})

    width = page.locator("main").evaluate("each => each.scrollWidth - each.clientWidth")

    assert width <= 0
