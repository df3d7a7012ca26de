"""What a text is found by: its words, in one form for the notes and for what is looked for; and which fit best.

Case and accents do not count, nor do compatibility forms (full width, ligatures). An English plural is its singular, by
the three rules of the S-stemmer (Harman, 1991: "How effective is suffixing?"), which do little harm in other languages.
Other endings count: "walked" is not "walking".

Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese are written without spaces, or with endings joined to the words.
There each pair of neighbouring characters is a word, and each character by itself: a note is found by any two
characters that follow each other, or by one that stands alone in what is looked for. So a search finds more than it
should now and then, and never less.

Whatever is no letter, digit or mark parts words, so a word holds nothing that a query language could mean.

Notes are ranked by BM25 (Robertson and Zaragoza, 2009: "The Probabilistic Relevance Framework") among those of their
scope alone, so nobody's notes count for the order of another's. No await, no clock, no I/O.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from math import log

#: Of what is looked for, so many characters from its beginning and as many from its end are read.
ENDS = 2000
#: And of its different words so many, half of them from either end.
TERMS = 64
#: Characters of a word that count.
LONGEST = 64

#: Of BM25, with the values that are usual: how soon more of the same word counts no more, and how much length counts.
_SATURATION, _LENGTH = 1.2, 0.75

_ASCII_WORDS = re.compile(r"[a-z0-9]+")
_SEPARATOR, _WORD, _PACKED = range(3)
#: First and last characters of what is written without spaces.
_PACKED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # signs that stand among Chinese characters
    (0x3040, 0x30FF),  # Japanese
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),  # Korean
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def words_of(text: str) -> list[str]:
    """The words that a note is found by, in order and as often as they are there."""
    found: list[str] = []
    for run, is_packed in _runs(text):
        if is_packed:
            found += run
            found += (one + other for one, other in pairwise(run))
        else:
            found.append(run)
    return found


def terms_of(query: str) -> list[str]:
    """The different words to look for; of a long text, those of its beginning and its end."""
    if len(query) > 2 * ENDS:
        query = f"{query[:ENDS]} {query[-ENDS:]}"
    found: dict[str, None] = {}
    for run, is_packed in _runs(query):
        if is_packed and len(run) > 1:
            found.update((one + other, None) for one, other in pairwise(run))
        else:
            found[run] = None
    terms = list(found)
    return terms if len(terms) <= TERMS else terms[: TERMS // 2] + terms[-TERMS // 2 :]


def ranked(terms: Sequence[str], found: Sequence[Counter[str]], count: int, average: float) -> list[int]:
    """The positions in `found` of the notes that have one of the terms, the best first; equals stay in order.

    Args:
        terms: what is looked for.
        found: the words of notes: at least of all that have one of the terms.
        count: how many notes there are in the scope.
        average: how many words they have on average.
    """
    scores: dict[int, float] = {}
    lengths = [words.total() for words in found]
    for term in terms:
        holders = [position for position, words in enumerate(found) if term in words]
        rarity = log(1 + (count - len(holders) + 0.5) / (len(holders) + 0.5))
        for position in holders:
            often = found[position][term]
            size = 1 - _LENGTH + _LENGTH * lengths[position] / average
            score = rarity * often * (_SATURATION + 1) / (often + _SATURATION * size)
            scores[position] = scores.get(position, 0.0) + score
    return sorted(scores, key=lambda position: (-scores[position], position))


def _runs(text: str) -> list[tuple[str, bool]]:
    """The words, and the stretches of characters without spaces, which are marked."""
    plain = text.lower() if text.isascii() else _plain(text)
    if plain.isascii():
        return [(_singular(word)[:LONGEST], False) for word in _ASCII_WORDS.findall(plain)]
    runs: list[tuple[str, bool]] = []
    for kind, group in groupby(plain, _kind):
        if kind != _SEPARATOR:
            run = "".join(group)
            runs.append((run, True) if kind == _PACKED else (_singular(run)[:LONGEST], False))
    return runs


def _plain(text: str) -> str:
    """The text without case, accents and compatibility forms."""
    apart = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFC", "".join([each for each in apart if not "\u0300" <= each <= "\u036f"]))


@lru_cache(maxsize=4096)
def _kind(character: str) -> int:
    code = ord(character)
    # Vowels of Indian and Arabic scripts are marks, and belong to the word.
    if not character.isalnum() and unicodedata.category(character)[0] != "M":
        return _SEPARATOR
    return _PACKED if any(first <= code <= last for first, last in _PACKED_RANGES) else _WORD


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or not word.isascii():
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return f"{word[:-3]}y"
    if word.endswith("es"):
        return word if word[-3] in "aeo" else word[:-1]
    return word if word[-2] in "us" else word[:-1]
