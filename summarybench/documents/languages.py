"""The languages whose summaries can be scored, and the words and sentences of their texts.

English texts are scored as rouge_score does, whatever their script. A language that --language names has rules of its own:
how its texts are cut into words, and which stemmer reduces them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import regex

from summarybench.core.outcomes import InputError
from summarybench.documents import words as of_any_script
from summarybench.documents.segmentation import JAPANESE, THAI, Segmentation, segmented_words

_INVISIBLE = regex.compile(r"\p{Cf}")  # joiners, soft hyphens, marks of direction
_DIGIT = regex.compile(r"\p{Nd}")
_THAI_AM = regex.compile("\u0e4d([\u0e48-\u0e4b]?)\u0e32")  # what NFKC makes of a Thai vowel, with a tone between
_THAI_PAUSE = regex.compile(r"(?<=\p{Script=Thai}) +(?=\p{Script=Thai})")
_GREEK_QUESTION_MARK = regex.compile(r"(?<=[;\u037e])\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language by its ISO 639-1 code.

    - `wikilingua`: WikiLingua's configuration on the hub; empty where it has no such articles.
    - `stemmer`: the name of nltk's Snowball stemmer; empty where it has none.
    - `segmentation`: how words are found where the script has no spaces; None for spaces, and for characters as words.
    """

    code: str
    name: str
    wikilingua: str = ""
    stemmer: str = ""
    segmentation: Segmentation | None = None

    @property
    def is_english(self) -> bool:
        return self.code == "en"

    @property
    def scored_by(self) -> str:
        """What scores compare, in words."""
        if self.segmentation is not None:
            return "by words, as budoux cuts them"
        if self.code == "zh":
            return "by characters"
        return "by word stems" if self.stemmer or self.is_english else "by words, without stemming"

    def words(self, text: str) -> list[str]:
        """The words in lower case, without punctuation."""
        if self.is_english:
            return of_any_script.words(text)
        plain = _normalized(text, self)
        if self.segmentation is None:
            return of_any_script.words(plain)
        return list(segmented_words(plain, self.segmentation))

    def stems(self, text: str) -> list[str]:
        """The words, each reduced to its stem where the language has a stemmer. English is left to rouge_score."""
        found = self.words(text)
        return [_stem(word, self.stemmer) for word in found] if self.stemmer else found

    def sentences(self, text: str) -> list[str]:
        """The text split after the full stops of any script and at line ends.

        Thai has no full stops, so it is split at the spaces between its words, which mark a pause. The Greek question mark
        looks like a semicolon.
        """
        found = of_any_script.sentences(text)
        more = {"th": _THAI_PAUSE, "el": _GREEK_QUESTION_MARK}.get(self.code)
        return [part for sentence in found for part in more.split(sentence)] if more else found


def _normalized(text: str, language: Language) -> str:
    """The text in Unicode's compatible composed form, in lower case, with ASCII digits and no invisible characters."""
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    if language.code == "tr":  # its dotted and dotless i are two letters
        plain = plain.replace("İ", "i").replace("I", "ı")
    plain = _DIGIT.sub(lambda match: str(unicodedata.decimal(match[0], match[0])), plain.casefold())
    composed: str = _THAI_AM.sub("\\1\u0e33", plain)
    return composed


@lru_cache(maxsize=100_000)
def _stem(word: str, stemmer: str) -> str:
    from nltk.stem.snowball import SnowballStemmer

    # A new one for each word: the Arabic stemmer keeps state, and its stems would depend on the words before.
    stem: str = SnowballStemmer(stemmer).stem(word)
    return stem or word


_LANGUAGES = (
    Language(code="ar", name="Arabic", wikilingua="arabic", stemmer="arabic"),
    Language(code="bn", name="Bengali"),
    Language(code="cs", name="Czech", wikilingua="czech"),
    Language(code="da", name="Danish", stemmer="danish"),
    Language(code="de", name="German", wikilingua="german", stemmer="german"),
    Language(code="el", name="Greek"),
    Language(code="en", name="English", wikilingua="english"),
    Language(code="es", name="Spanish", wikilingua="spanish", stemmer="spanish"),
    Language(code="fa", name="Persian"),
    Language(code="fi", name="Finnish", stemmer="finnish"),
    Language(code="fr", name="French", wikilingua="french", stemmer="french"),
    Language(code="he", name="Hebrew"),
    Language(code="hi", name="Hindi", wikilingua="hindi"),
    Language(code="hu", name="Hungarian", stemmer="hungarian"),
    Language(code="id", name="Indonesian", wikilingua="indonesian"),
    Language(code="it", name="Italian", wikilingua="italian", stemmer="italian"),
    Language(code="ja", name="Japanese", wikilingua="japanese", segmentation=JAPANESE),
    Language(code="ko", name="Korean", wikilingua="korean"),
    Language(code="nl", name="Dutch", wikilingua="dutch", stemmer="dutch"),
    Language(code="no", name="Norwegian", stemmer="norwegian"),
    Language(code="pl", name="Polish"),
    Language(code="pt", name="Portuguese", wikilingua="portuguese", stemmer="portuguese"),
    Language(code="ro", name="Romanian", stemmer="romanian"),
    Language(code="ru", name="Russian", wikilingua="russian", stemmer="russian"),
    Language(code="sv", name="Swedish", stemmer="swedish"),
    Language(code="th", name="Thai", wikilingua="thai", segmentation=THAI),
    Language(code="tr", name="Turkish", wikilingua="turkish"),
    Language(code="uk", name="Ukrainian"),
    Language(code="ur", name="Urdu"),
    Language(code="vi", name="Vietnamese", wikilingua="vietnamese"),
    Language(code="zh", name="Chinese", wikilingua="chinese"),
)
LANGUAGES: Mapping[str, Language] = {each.code: each for each in _LANGUAGES}
"""By code. Words of Chinese are its characters, as is usual when ROUGE is computed for Chinese."""

ENGLISH = LANGUAGES["en"]

WITHOUT_SEGMENTATION: Mapping[str, str] = {"bo": "Tibetan", "km": "Khmer", "lo": "Lao", "my": "Burmese"}
"""Languages without spaces between words that nothing here can cut into words."""


def language_of(code: str) -> Language:
    """The language of --language. Raises InputError for one that cannot be scored, with the list of those that can."""
    found = LANGUAGES.get(code.strip().lower())
    if found is not None:
        return found
    offered = ", ".join(f"{each.code} ({each.name})" for each in _LANGUAGES)
    if name := WITHOUT_SEGMENTATION.get(code.strip().lower()):
        problem = f"{name} has no spaces between words, and the suite cannot find its words"
    else:
        named = [each.code for each in _LANGUAGES if each.name.lower() == code.strip().lower()]
        problem = f"the code is {named[0]!r}" if named else "not a language that the suite can score"
    raise InputError(f"--language {code}: {problem}; choose from {offered}")
