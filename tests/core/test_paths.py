import pytest

from summarybench.core.outcomes import InputError
from summarybench.core.paths import user_path
from summarybench.core.processes import ALONE, this_process


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(user_path("~/res")) == "/home/somebody/res"
    assert str(user_path("res/~x")) == "res/~x"


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])
def test_an_empty_variable_of_a_launcher_counts_as_unset(name):
    environment = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", name: ""}
    assert (this_process(environment) == ALONE) is (name != "LOCAL_WORLD_SIZE")


def test_a_variable_of_a_launcher_that_is_no_number_is_named():
    with pytest.raises(InputError, match="RANK=first: launchers such as torchrun set this variable to a number"):
        this_process({"WORLD_SIZE": "2", "RANK": "first", "LOCAL_RANK": "0"})
