"""The report in a real browser, as a person gets it: a file, opened without any network."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from meshgate.report.html import write
from meshgate.report.run import Run
from meshgate.snapshot.store import load
from meshgate.suppressions import UnusableWaivers, read_waivers
from meshgate.verdict import Finding, Outcome, Verdict, ruling
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


@contextmanager
def opened(browser: Browser, report: Path, anchor: str = "", **options: Any) -> Iterator[Page]:
    """A page; a request to the network, or a complaint of the browser, fails the test."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    url = report.as_uri()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))

    def sent(request: Request) -> None:
        if not request.url.startswith(url):
            trouble.append(request.url)

    page.on("request", sent)
    page.goto(f"{url}{anchor}")
    yield page
    assert trouble == []
    context.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """That page, in one of the color schemes."""
    with opened(browser, report, color_scheme=request.param) as page:
        yield page
        page.screenshot(path=report.with_name(f"{request.param}.png"))


@pytest.fixture
def bright(browser: Browser, report: Path) -> Iterator[Page]:
    """That page, in the light scheme."""
    with opened(browser, report, permissions=["clipboard-read", "clipboard-write"]) as page:
        yield page


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with 10,000 findings."""
    findings = tuple(
        Finding(f"Pod team-{n % 40}/app-{n}", f"answers {n % 7}", problem=f"p{n % 7}")
        for n in range(10_000)
    )
    stages = {"CP004": "controlplane"}
    run = Run(ruling([Outcome("CP004", Verdict.FAIL, findings=findings)], stages))
    file = tmp_path_factory.mktemp("big") / "index.html"
    write(file, run)
    return file


def test_the_verdict_is_seen_first_and_stays_in_view(page: Page) -> None:
    heading = page.get_by_role("heading", level=1)

    expect(heading).to_contain_text("GATE CLOSED")
    for position in (0, 3000):
        page.mouse.wheel(0, position)
        box = heading.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 100


def test_what_to_do_first_comes_before_everything_else(page: Page) -> None:
    assert page.locator("main h2:visible").all_inner_texts()[:2] == ["Start with", "Results"]
    steps = page.locator(".start li a").all_inner_texts()
    assert steps[:2] == ["unschedulable node", "EnvoyFilter shop/unknown-filter"]
    expect(page.locator(".start li code").nth(1)).to_have_text(
        "kubectl -n shop get envoyfilter unknown-filter -o yaml"
    )


def test_every_text_can_be_read(page: Page) -> None:
    page.locator("details.row summary").first.click()
    page.locator("details.about summary").first.click()
    shown = ":is(p, small, h1, h2, h3, h4, b, i, dt, dd, td, th, li, summary, span, code, button)"
    texts = page.locator(f"header {shown}:visible, main {shown}:visible").all()

    poor = [each.inner_text() for each in texts if each.inner_text() and contrast(each) < 4.5]

    assert len(texts) > 100
    assert poor == []


def contrast(element: Locator) -> float:
    """How well the text of an element is seen, by WCAG 2."""
    return float(element.evaluate(CONTRAST))


def test_a_stage_shows_only_its_own_findings(bright: Page) -> None:
    bright.get_by_role("button", name="dataplane").click()

    expect(bright.locator("#shown")).to_contain_text("7 of 22 findings")
    for row in bright.locator("details.row").all():
        assert (row.get_attribute("id") or "").startswith(("DP", "RA"))
    bright.get_by_role("button", name="Clear filters").click()
    expect(bright.locator("details.row")).not_to_have_count(6)


def test_a_search_and_a_verdict_filter_what_is_shown(bright: Page) -> None:
    bright.get_by_role("searchbox").fill("SHOP/web rejected")
    expect(bright.locator("#shown")).to_contain_text("1 of 22")
    expect(bright.locator("details.row")).to_have_count(1)

    bright.get_by_role("searchbox").fill("")
    bright.get_by_role("button", name="warning").filter(has=bright.locator("i")).click()
    expect(bright.locator("details.row.failed")).to_have_count(0)
    expect(bright.locator("details.row.warning")).not_to_have_count(0)


def test_by_object_all_findings_of_a_workload_are_together(bright: Page) -> None:
    bright.get_by_role("button", name="By object").click()

    group = bright.locator(".group", has_text="Deployment shop/web")
    expect(group.locator(".tag")).to_have_text("2")
    first, second = (group.locator(f"xpath=following-sibling::details[{n}]") for n in (1, 2))
    expect(first).to_contain_text("CP004")
    expect(second).to_contain_text("DP002")


def test_a_cause_leads_to_its_findings(bright: Page) -> None:
    bright.get_by_role("link", name="EnvoyFilter shop/unknown-filter").click()

    ids = [row.get_attribute("id") or "" for row in bright.locator("details.row").all()]
    assert {each[:5] for each in ids} == {"PC101", "CP004"}


def test_remedies_and_waivers_are_copied(bright: Page, tmp_path: Path) -> None:
    bright.locator(".start .copy").nth(1).click()
    expect(bright.locator(".start .copy").nth(1)).to_have_text("Copied")
    copied = "navigator.clipboard.readText()"
    assert bright.evaluate(copied) == "kubectl -n shop get envoyfilter unknown-filter -o yaml"

    row = bright.locator("details.row[id^=CP004]").first
    row.locator("summary").click()
    row.get_by_role("button", name="Copy waiver").click()
    expect(row.get_by_role("button", name="Copied")).to_be_visible()
    file = tmp_path / "waivers.toml"
    text = str(bright.evaluate(copied))
    file.write_text(text)
    with pytest.raises(UnusableWaivers, match="gives no reason"):
        read_waivers(file)
    file.write_text(text.replace('reason = ""', 'reason = "known"'))
    (waiver,) = read_waivers(file)
    assert (waiver.check, waiver.subject) == ("CP004", "Deployment shop/web")
    assert (waiver.problem, waiver.about["type"]) == ("rejected-push", "Listener")


def test_a_link_opens_its_finding(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        anchor = page.locator("details.row[id^=DP002]").nth(2).get_attribute("id")
    with opened(browser, report, f"#{anchor}") as page:
        row = page.locator(f"details#{anchor}")
        expect(row).to_have_attribute("open", "")
        expect(row).to_be_in_viewport()


def test_a_checks_page_is_opened_by_keyboard(page: Page) -> None:
    about = page.locator("details.about summary").first
    about.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Why it matters").first).to_be_visible()


def test_the_mesh_shows_replicas_that_are_not_ready_and_says_what_is_drawn(page: Page) -> None:
    mesh = page.locator("#mesh")

    pods = load(ROOT / "demo/broken.json.gz").pods
    (pending,) = [pod.metadata.name for pod in pods if pod.status.phase == "Pending"]
    expect(mesh).to_contain_text(pending)
    expect(mesh).to_contain_text("not PodScheduled")
    labels = [each.get_attribute("aria-label") for each in mesh.get_by_role("img").all()]
    assert "6 in sync, 1 rejected" in labels


def test_paper_shows_what_a_click_would(bright: Page) -> None:
    bright.emulate_media(media="print")
    bright.evaluate("dispatchEvent(new Event('beforeprint'))")

    expect(bright.locator("details.row[id^=CP004] dl").first).to_be_visible()
    expect(bright.get_by_role("searchbox")).to_be_hidden()
    expect(bright.locator(".copy").first).to_be_hidden()


def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, report: Path) -> None:
    phone: dict[str, Any] = {
        "viewport": {"width": 360, "height": 740},
        "is_mobile": True,
        "has_touch": True,
    }
    with opened(browser, report, **phone) as page:
        expect(page.locator(".start")).to_be_in_viewport()
        page.locator("details.row summary").first.tap()
        expect(page.locator("details.row dl").first).to_be_visible()

        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.screenshot(path=report.with_name("phone.png"))


def test_ten_thousand_findings_are_drawn_a_part_at_a_time(browser: Browser, big: Path) -> None:
    with opened(browser, big) as page:
        page.set_default_timeout(5000)
        assert page.evaluate("document.querySelectorAll('*').length") < 2000
        page.get_by_role("searchbox").fill("team-7/app-1207")
        expect(page.locator("#shown")).to_contain_text("1 of 10,000")
        page.get_by_role("searchbox").fill("")
        page.get_by_role("button", name="By object").click()
        expect(page.locator(".group").first).to_be_visible()
        assert page.evaluate("document.querySelectorAll('*').length") < 2000


def test_the_last_of_ten_thousand_findings_is_reached_by_its_link(
    browser: Browser, big: Path
) -> None:
    found = json.loads(big.read_text().split('id="data">')[1].split("</script>")[0])["findings"]

    with opened(browser, big, f"#{found[-1]['anchor']}") as page:
        expect(page.locator(f"details#{found[-1]['anchor']}")).to_be_in_viewport()
