"""Picks the sentence of a file that speaks to a question. Text in, text out; nothing of Haystack in here."""

import re
from collections.abc import Container, Iterable, Iterator
from itertools import pairwise
from math import log
from textwrap import wrap

# Words that a question is made of and that say nothing about its subject.
_STOP_WORDS = """a about all also am an and any are as at be because been being but by can could did do does doing done
during each else for from get gets got had has have having he her here hers him his how i if in into is it its itself
just like made make makes many may me might more most much must my no not now of off on once only or other our ours out
over own please same shall she should so some such tell than that the their theirs them then there these they this
those through to too under until up us use used very was we were what when where which while who whom whose why will
with would you your yours"""
_ABBREVIATIONS = "cf dr e.g ed eq etc fig i.e incl mr mrs ms no nos p pp prof resp sec st vol vs"
STOP_WORDS, ABBREVIATIONS = frozenset(_STOP_WORDS.split()), frozenset(_ABBREVIATIONS.split())
LONGEST_SENTENCE = 600  # characters: beyond it the text is no prose, and is cut at a space

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # written without spaces: each character is a word
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_NO_PROSE = re.compile(r"^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1[ \t]*\r?$|\Z)|<!--.*?(?:-->|\Z)", re.MULTILINE | re.DOTALL)
_NEW_BLOCK = re.compile(r"[ \t]*(?:>|#{1,6}[ \t]|[-*+•][ \t]|\d{1,3}[.)][ \t])")
_NO_BLOCK = re.compile(r"[|:=~*_ \t-]*$|\||!\[|\[!\[")  # rules, table rows, images
_CLOSING = "[\"'\u201d\u2019\u00bb)\\]*_`]*"  # quotes, brackets and emphasis after a full stop
_SENTENCE_END = re.compile(rf"(?<![.!?\u2026])[.!?\u2026]++{_CLOSING}\s+(?=[^\sa-z])|[\u3002\uff01\uff1f]+\s*")
_COMPLETE = re.compile(rf"[.!\u2026\u3002\uff01]{_CLOSING}$")
_QUESTION = re.compile(rf"[?\uff1f]{_CLOSING}$")
_MARKUP = re.compile(r"\]\([^()]*\)|\]\[[^\[\]]*\]|<[^<>]+>")  # what is not shown: targets of links, HTML tags


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def stem(word: str) -> str:
    """The same for `stream`, `streams`, `streamed` and `streaming`; no linguistics, the common English endings."""
    for ending in ("ing", "ies", "ed", "es", "s", "e", "y"):
        if len(word) - len(ending) >= 3 and word.endswith(ending):
            word = word.removesuffix(ending) + ("i" if ending in ("ies", "y") else "")
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def key_terms(query: str) -> frozenset[str]:
    """The stems of what the query asks about; empty when it is made of stop words only."""
    return frozenset(stem(word) for word in words(query) if word not in STOP_WORDS)


def sentences(source: str) -> list[str]:
    """The sentences of a text or Markdown file, each on one line and otherwise as they stand there, markup included.

    Headings and list items are sentences of their own; code blocks, tables, images and comments are left out.
    """
    return [sentence for block in _blocks(source) for sentence in _split(block)]


def squeeze(text: str) -> str:
    """Only its letters and digits: equal for a sentence with and without Markdown markup, however it is wrapped."""
    return "".join(words(_MARKUP.sub("]", text)))


def best_sentence(terms: frozenset[str], candidates: Iterable[str]) -> str | None:
    """The candidate with the most and the rarest terms, the first of equals; None when no candidate has any.

    Terms that stand close together or at the beginning count more, what is no whole sentence (a heading, a list item)
    less, a question hardly. Without terms: the first complete sentence.
    """
    unique = list(dict.fromkeys(candidates))
    stems = {sentence: [stem(word) for word in words(sentence)] for sentence in unique}
    found = {term: sum(term in of_one for of_one in stems.values()) for term in terms}
    weights = {term: log(1 + len(unique) / count) for term, count in found.items() if count}
    best, best_score = None, 0.0
    for sentence, of_one in stems.items():
        relevance = sum(weights[term] for term in set(of_one) & weights.keys()) if terms else 1.0
        score = relevance * _form(sentence) * _emphasis(of_one, weights)
        if score > best_score:
            best, best_score = sentence, score
    return best


def is_complete(sentence: str) -> bool:
    """Whether it ends as a statement does: a heading, a question, most list items and bits of code do not."""
    return bool(_COMPLETE.search(sentence)) and len(words(sentence)) > 2


def _form(sentence: str) -> float:
    if _QUESTION.search(sentence):
        return 0.1
    return 1.0 if is_complete(sentence) else 0.3


def _emphasis(stems: list[str], terms: Container[str]) -> float:
    """More when two different terms stand within three words, and when a term is among the first three words."""
    places = [(place, word) for place, word in enumerate(stems) if word in terms]
    close = any(a != b and j - i <= 3 for (i, a), (j, b) in pairwise(places))
    leads = bool(places) and places[0][0] < 3
    return 1.0 + 0.25 * close + 0.1 * leads


def _blocks(source: str) -> Iterator[str]:
    """Paragraphs, headings and list items, each on one line, without the mark in front of it."""
    block: list[str] = []
    for line in re.split(r"\r\n|\r|\n", _NO_PROSE.sub("\n\n", source).replace("\f", "\n\n")):
        marker = _NEW_BLOCK.match(line)
        text = " ".join(line[marker.end() if marker else 0 :].split())
        is_blank = _NO_BLOCK.match(line.strip())
        if block and (marker or is_blank or _is_title(block[-1], text)):
            yield " ".join(block)
            block = []
        if text and not is_blank:
            block.append(text)
        if block and marker and "#" in marker.group():  # a heading is one line
            yield block.pop()
    if block:
        yield " ".join(block)


def _is_title(line: str, following: str) -> bool:
    """A short line without a full stop above a long one: how a heading comes out of a PDF."""
    return following[:1].isupper() and len(line) < 0.6 * len(following) and not re.search(r"[\W_]$", line)


def _split(block: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(block):
        last_word = block[start : end.start()].rpartition(" ")[2].lstrip("\"'([*_`").lower()
        is_initial = len(last_word) == 1 and last_word.isalpha()
        if end.group().startswith(".") and (is_initial or last_word in ABBREVIATIONS):
            continue
        yield from _cut(block[start : end.end()].rstrip())
        start = end.end()
    if start < len(block):
        yield from _cut(block[start:])


def _cut(sentence: str) -> list[str]:
    return [sentence] if len(sentence) <= LONGEST_SENTENCE else wrap(sentence, LONGEST_SENTENCE, break_on_hyphens=False)
