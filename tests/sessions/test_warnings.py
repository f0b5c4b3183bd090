"""A library's warning is shown and never ends a benchmark session. A warning in the project's own code fails its tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.conftest import ROOT, Project, Session
from tests.measure.test_continuous import ONE, with_engine

KINDS = ("FutureWarning", "DeprecationWarning", "UserWarning", "RuntimeWarning", "ResourceWarning", "WarningOfItsOwn")
SHOWN = ("FutureWarning", "UserWarning", "RuntimeWarning", "WarningOfItsOwn")
"""pytest.ini leaves out the deprecations in a library's own code, and Python shows a ResourceWarning or not as it was built."""

PLACES = (
    "importing",
    *(f"in {name}" for name in ("parse_settings", "detect_device", "describe_environment", "read_baselines")),
    *("setting up", "in run", "in score", "in close", "tearing down"),
    *("finishing", "in write_report", "in write_page", "in final_report"),
)
NOISY = f"""
import warnings

class WarningOfItsOwn(Warning):
    pass

def warn(place):
    for kind in ({", ".join(KINDS)}):
        for stacklevel in range(1, 40):
            warnings.warn(f"noise while {{place}}, {{kind.__name__}}", kind, stacklevel=stacklevel)
"""

NOISE_EVERYWHERE = """
    import noisy
    from fixtures import closing as end, configuration, terminal
    from summarybench.session import closing, opening, toolbox

    noisy.warn("importing")

    def noisily(name, function):
        def warning(*arguments, **named):
            noisy.warn(f"in {name}")
            return function(*arguments, **named)
        return warning

    for place, names in {
        configuration: ("parse_settings", "detect_device", "describe_environment"),
        terminal: ("final_report",),
        end: ("write_page",),
        toolbox: ("score",),
        closing: ("write_report",),
        opening: ("read_baselines",),
        FakeEngine: ("run", "close"),
    }.items():
        for name in names:
            setattr(place, name, noisily(name, getattr(place, name)))

    @pytest.fixture(autouse=True)
    def noise():
        noisy.warn("setting up")
        yield
        noisy.warn("tearing down")

    def pytest_sessionfinish():
        noisy.warn("finishing")
"""


def beside(project: Project, name: str, source: str) -> str:
    """The PYTHONPATH on which this package comes first."""
    package = project.folder / "beside" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source, encoding="utf-8")
    return f"{package.parent}:{ROOT}"


def deprecated_pynvml() -> str:
    """NVIDIA's module, as the deprecated package of that name has it: it warns whoever imports it."""
    import pynvml

    warning = (
        "import warnings\n"
        "for stacklevel in range(1, 40):\n"
        "    warnings.warn('The pynvml package is deprecated', FutureWarning, stacklevel=stacklevel)\n"
    )
    return warning + Path(pynvml.__file__).read_text(encoding="utf-8")


def check_clean(session: Session) -> None:
    assert "INTERNALERROR" not in session.output
    assert (session.exit_code, session.left_behind) == (0, "0"), session.output
    assert set(session.outcomes.values()) == {"passed"}


def test_deprecated_package_beside_is_shown_and_does_not_end_the_session(project):
    path = beside(project, "pynvml", deprecated_pynvml())
    session = project.bench("--documents", "2", "-k", "smollm2 and 4-bit", PYTHONPATH=path)
    assert session.exit_code == 0, session.output
    assert "FutureWarning: The pynvml package is deprecated" in session.output
    assert "INTERNALERROR" not in session.output


def test_no_warning_of_a_library_ends_a_session_wherever_it_points(project):
    project.use(with_engine() + NOISE_EVERYWHERE)
    session = project.bench(*ONE, "--documents", "3", PYTHONPATH=beside(project, "noisy", NOISY))
    check_clean(session)
    for place in PLACES:
        assert all(f"{kind}: noise while {place}, {kind}" in session.output for kind in SHOWN), place


def test_warning_that_the_user_makes_an_error_fails_the_test_and_not_the_session(project):
    project.use(with_engine() + NOISE_EVERYWHERE.replace('    noisy.warn("importing")\n', ""))
    session = project.bench(*ONE, "--documents", "3", "-W", "error", PYTHONPATH=beside(project, "noisy", NOISY))
    assert "INTERNALERROR" not in session.output
    assert (session.exit_code, session.left_behind) == (1, "1"), session.output
    (outcome,) = session.run["outcomes"]
    assert (outcome["outcome"], outcome["detail"]) == ("failed", "FutureWarning: noise while setting up, FutureWarning")
    assert "FutureWarning: noise while in write_report, FutureWarning" in session.output


def test_session_of_which_no_library_warns_shows_no_warning(project):
    assert "warnings summary" not in project.bench("--documents", "2", "-k", "smollm2 and 4-bit").output


@pytest.mark.parametrize(
    "module", ["summarybench.analysis.quality", "distillation.judge", "tests.sessions.test_warnings", "conftest"]
)
def test_warning_in_the_project_s_own_code_fails_its_tests(module):
    with pytest.raises(RuntimeWarning):
        warnings.warn_explicit("a mean of nothing", RuntimeWarning, "quality.py", 1, module=module)


def test_warning_in_a_library_does_not_fail_the_harness_s_tests():
    with warnings.catch_warnings(record=True) as shown:
        warnings.warn_explicit("soon to be removed", FutureWarning, "a.py", 1, module="transformers.utils")
    assert [str(each.message) for each in shown] == ["soon to be removed"]
