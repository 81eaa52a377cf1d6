"""Shows that links to a part of a document name a heading that is there."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, anchors, links


def test_every_anchor_is_a_heading() -> None:
    broken = []
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        for link in links(page.read_text(encoding="utf-8")):
            target, _, anchor = link.partition("#")
            if anchor and "://" not in link:
                there = page.parent / target if target else page
                broken += [(page.name, link)] * (anchor not in anchors(there.read_text(encoding="utf-8")))
    assert broken == []


def test_both_languages_link_to_the_same_pages() -> None:
    english, chinese = (set(links((ROOT / page).read_text(encoding="utf-8"))) for page in ("README.md", "README.zh.md"))
    assert english - {"README.zh.md"} == chinese - {"README.md"}


def test_every_page_of_the_four_rooms_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page not in reached:
            reached.add(page)
            targets = (re.sub("#.*", "", link) for link in links(page.read_text(encoding="utf-8")) if "://" not in link)
            waiting += [page.parent / target for target in targets if target.endswith(".md")]
    assert {page.resolve() for page in ROOT.glob("docs/**/*.md")} - reached == set()
