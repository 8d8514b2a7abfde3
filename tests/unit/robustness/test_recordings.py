"""Mutated recordings: no object of a mesh makes a check, or a report of it, crash."""

import json
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from meshgate.collect import decode
from meshgate.snapshot.items import KINDS, SOURCES
from meshgate.snapshot.model import DECODER
from meshgate.snapshot.redact import redacted
from meshgate.verdict import Verdict
from tests.support.checks import Judgment
from tests.support.fuzzing import camel, corpus, examples, mutated

randoms = st.randoms(use_true_random=False)


def judged(recording: object) -> Judgment | None:
    """Judge a recording as a run does; None for one that cannot be loaded."""
    try:
        snapshot = DECODER.decode(json.dumps(recording))
    except msgspec.ValidationError:
        return None
    return Judgment(redacted(snapshot))


def test_no_check_crashes_on_the_corpus() -> None:
    found = judged(corpus())

    assert found is not None
    assert not found.crashes


@examples(250)
@given(random=randoms, item=st.sampled_from(sorted(KINDS)))
def test_no_object_of_the_cluster_makes_a_check_crash(random: Random, item: str) -> None:
    written = corpus()[camel(item)]
    objects = mutated({"items": written}, random).get("items")
    body = json.dumps({"items": objects if isinstance(objects, list) else written})
    try:
        page = decode.page(body.encode(), KINDS[item].type, item)
    except ValueError:
        return  # what is not a list of objects is a gap
    snapshot = DECODER.decode(json.dumps({**corpus(), camel(item): []}))

    found = Judgment(msgspec.structs.replace(snapshot, **{item: page.objects}))

    assert not found.crashes


@examples(250)
@given(random=randoms, item=st.sampled_from(sorted(SOURCES)))
def test_a_reading_of_ours_that_was_edited_makes_no_report_crash(random: Random, item: str) -> None:
    recording = dict(corpus())
    if recording.get(camel(item)):
        recording[camel(item)] = mutated(recording[camel(item)], random)

    found = judged(recording)

    # what no reader writes may make a check UNKNOWN, and nothing else
    unknown = {each.check for each in found.ruling.of(Verdict.UNKNOWN)} if found else set()
    assert found is None or {id for id, _ in found.crashes} <= unknown
