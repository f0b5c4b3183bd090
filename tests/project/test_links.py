"""The documentation's links lead somewhere, and the check finds those that do not."""

from __future__ import annotations

import re

import pytest

from tests.check_links import anchors_of, main
from tests.forked import ROOT

TARGET = "# A page\n\n## What's *new*, and `why`?\n\n## Twice\n\n## Twice\n"


@pytest.fixture
def checked(tmp_path, capsys):
    """The exit code and the messages for a README.md with this text, beside docs/page.md."""

    def check(readme):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "page.md").write_text(TARGET)
        (tmp_path / "README.md").write_text(readme)
        code = main(tmp_path)
        return code, capsys.readouterr().err

    return check


def test_no_link_of_the_documentation_is_broken(capsys):
    assert main() == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "link",
    [
        "[a](docs/page.md)",
        "[a](docs/)",
        "[a](docs/page.md#whats-new-and-why)",
        "[a](docs/page.md#twice-1)",
        "[a](#here)\n\n# Here",
        "![a](docs/page.md)",
        "[a][b]\n\n[b]: docs/page.md",
        "[a](https://example.org/nowhere.md)",
        "[a](mailto:a@example.org)",
        "`[a](nowhere.md)`",
        "```\n[a](nowhere.md)\n```",
    ],
)
def test_link_that_leads_somewhere_is_accepted(checked, link):
    assert checked(link) == (0, "")


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[a](docs/nowhere.md)", "docs/nowhere.md: no such file"),
        ("[a](docs/page.md#nowhere)", "docs/page.md#nowhere: no such heading"),
        ("[a](#nowhere)", "#nowhere: no such heading"),
        ("[a](docs/page.md#twice-2)", "docs/page.md#twice-2: no such heading"),
        ("![a](picture.svg)", "picture.svg: no such file"),
        ("[a][b]\n\n[b]: nowhere.md", "nowhere.md: no such file"),
        ("[a](../elsewhere.md)", "../elsewhere.md: outside the project"),
        ("# Headings in code\n\n```\n# nowhere\n```\n[a](#nowhere)", "#nowhere: no such heading"),
    ],
)
def test_broken_link_is_named_with_its_page_and_fails(checked, link, said):
    code, messages = checked(link)
    assert code == 1
    assert messages.startswith("README.md:")
    assert messages.endswith(f": {said}\n")


def test_line_of_a_broken_link_is_counted_through_code(checked):
    _, messages = checked("```\ncode\n```\n\n[a](nowhere.md)\n")
    assert messages == "README.md:5: nowhere.md: no such file\n"


def test_anchors_are_those_that_github_makes():
    assert anchors_of(TARGET) == {"a-page", "whats-new-and-why", "twice", "twice-1"}
    assert anchors_of('<a id="named"></a>\n## [A link](x.md) – a dash') == {"named", "a-link--a-dash"}


def test_every_test_that_the_security_page_names_is_there():
    page = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
