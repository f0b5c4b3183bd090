"""nltk's Porter stemmer, which rouge_score stems with, without the rest of nltk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


def porter_stemmer() -> Any:
    """The stemmer. Its `stem(word)` is what rouge_score calls.

    `import nltk` runs all of nltk and scipy.stats, nearly 1,000 modules of 60 MB. The stemmer needs three of them.
    """
    with _without_init("nltk", "nltk.stem"):
        from nltk.stem.porter import PorterStemmer

        return PorterStemmer()


@contextmanager
def _without_init(*packages: str) -> Iterator[None]:
    """Import modules of a package, the first one named, without running the `__init__` of the packages named.

    The modules are forgotten afterwards, so that a later import gets the whole package. A package that was imported before is
    left as it is.
    """
    name = packages[0]
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        yield
        return
    (root,) = spec.submodule_search_locations
    for package in packages:
        bare = ModuleType(package)
        bare.__path__ = [str(Path(root, *package.split(".")[1:]))]
        sys.modules[package] = bare
    try:
        yield
    finally:
        for module in [each for each in sys.modules if each.partition(".")[0] == name]:
            del sys.modules[module]
