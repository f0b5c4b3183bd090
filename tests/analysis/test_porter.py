"""Words are stemmed by nltk's Porter stemmer, and scored without importing the rest of nltk."""

import re
import subprocess
import sys

from nltk.stem.porter import PorterStemmer

from summarybench.documents.sources import embedded_documents

HEAVY = ("nltk", "scipy.stats", "scipy.optimize", "rouge_score.rouge_scorer")


def printed(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_stems_are_those_of_nltk():
    words = sorted({word for each in embedded_documents().documents for word in re.findall(r"[a-z]+", each.text)})
    assert len(words) > 1_000
    code = (
        "from summarybench.analysis.porter import porter_stemmer\n"
        f"stemmer = porter_stemmer()\nprint(*(stemmer.stem(word) for word in {words!r}))"
    )
    whole = PorterStemmer()
    assert printed(code) == [whole.stem(word) for word in words]


def test_scoring_and_intervals_import_no_large_library():
    code = (
        "import sys\nfrom summarybench.analysis.rouge import rouge_f1\n"
        "from summarybench.stats.intervals import mean_interval\n"
        "assert rouge_f1('He runs quickly.', 'She runs.')['rouge1'] > 0\nmean_interval([0.1, 0.2, 0.4])\n"
        f"print('loaded', *(each for each in {HEAVY!r} if each in sys.modules))"
    )
    assert printed(code) == ["loaded"]


def test_nltk_is_whole_for_whoever_imports_it_later():
    code = (
        "from summarybench.analysis.porter import porter_stemmer\nporter_stemmer()\n"
        "from nltk import word_tokenize\nfrom nltk.stem.snowball import SnowballStemmer\n"
        "print(SnowballStemmer('german').stem('katzen'), word_tokenize.__module__)"
    )
    assert printed(code) == ["katz", "nltk.tokenize"]


def test_nltk_that_is_imported_stays_as_it_is():
    code = (
        "import sys, nltk\nfrom summarybench.analysis.porter import porter_stemmer\n"
        "print(isinstance(porter_stemmer(), nltk.PorterStemmer), sys.modules['nltk'] is nltk)"
    )
    assert printed(code) == ["True", "True"]
