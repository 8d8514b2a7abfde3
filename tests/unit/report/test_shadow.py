"""Both reports of a simulated upgrade are complete, and escape markup."""

from html.parser import HTMLParser

from meshgate.report.shadow import ShadowReport, shadow_lines, shadow_page
from meshgate.snapshot.shadow import Change, ProxyClass, Refusal, Shadow

WIDE = Change(kind="changed", type="cluster", resource="a", path="/x", before="1", after="2")
SOME = Change(kind="added", type="route", resource="80", path="/y", before="-", after="15s")
REFUSAL = Refusal(part="listener <in>", words="no <script>", culprits=("EnvoyFilter a/b",))
SEEN = Shadow(
    version="1.29.1",
    classes=(
        ProxyClass(proxies=("x", "x2"), resources=3, changes=(WIDE,), refusals=(REFUSAL,)),
        ProxyClass(proxies=("y",), resources=4, changes=(WIDE, SOME)),
        ProxyClass(proxies=("z",), error="no answer"),
    ),
)


class Text(HTMLParser):
    """What a page shows, and of which elements it is."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_the_lines_say_all_and_the_last_one_sums_it_up() -> None:
    lines = shadow_lines(ShadowReport.of(SEEN))

    assert [line[:5].strip() for line in lines] == ["FAIL", "UNKNO", "all", "some", "Upgra"]
    assert lines[2] == "all   changed in 2 places: cluster a /x 1 -> 2"
    assert lines[3] == "some  added for y: route 80 /y - -> 15s"
    summary = "Upgrade to 1.29.1: 1 problem (4 proxies in 3 classes, 7 resources compared)"
    assert lines[4] == summary


def test_nothing_breaks_only_where_all_was_seen() -> None:
    whole = Shadow(version="1.29.1", classes=(ProxyClass(proxies=("y",), resources=4),))
    blind = Shadow(version="1.29.1", classes=(ProxyClass(proxies=("z",), error="no answer"),))

    assert "1.29.1: no problem (" in shadow_lines(ShadowReport.of(whole))[-1]
    assert "could not be verified completely" in shadow_lines(ShadowReport.of(blind))[-1]


def test_the_page_says_the_same_and_takes_nothing_for_markup() -> None:
    page = Text(shadow_page(ShadowReport.of(SEEN)))

    shown = " ".join(page.words)
    assert "Upgrade to 1.29.1: 1 problem" in shown
    assert "Envoy 1.29.1 rejects listener <in> of x, x2: no <script>" in shown
    assert "Proxy z: no answer" in shown
    assert "added route 80 /y - 15s" in shown
    assert "script" not in page.elements
    assert "x x2" in shown  # the class of x
