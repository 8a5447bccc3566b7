"""Help pages and locales against the schemas of the nodes, which are their one source."""

from magic141.tools import help_pages, locales
from magic141.tools.node_info import node_info


def test_every_node_has_a_current_help_page():
    assert help_pages.problems() == []


def test_english_is_current():
    assert locales.stale_files() == [], "run dev.py remake locales"


def test_no_language_lacks_a_text():
    assert {"en", "zh"} <= set(locales.languages())
    assert locales.missing_keys() == []


def test_every_input_and_output_says_what_it_is_for():
    for node_id, info in node_info().items():
        texts = locales.definition(info)
        told = [*texts["inputs"].values(), *texts["outputs"].values()]
        assert all(entry["tooltip"] for entry in told), node_id
        assert texts["description"], node_id
        assert info["search_aliases"], node_id
