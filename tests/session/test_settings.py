"""Options that are more than their text."""

from __future__ import annotations

import pytest

from summarybench.core.outcomes import InputError
from summarybench.machine.environment import HOST_NAME_VARIABLE
from summarybench.session.settings import _host_name


def test_the_host_s_name_comes_from_the_option_or_else_the_environment(monkeypatch):
    assert _host_name(None) == ""
    monkeypatch.setenv(HOST_NAME_VARIABLE, " lab-1 ")
    assert _host_name(None) == "lab-1"
    assert _host_name("lab-2") == "lab-2"


@pytest.mark.parametrize("name", ["two\nlines", "x" * 41])
def test_a_host_s_name_is_short_and_printable(name):
    with pytest.raises(InputError, match="give at most 40 printable characters"):
        _host_name(name)
