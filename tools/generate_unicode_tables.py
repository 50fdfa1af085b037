"""Writes src/runner/tokenizer_tables.inc: what the reference tokenizer does with each code point.

    generate_unicode_tables.py [--check]

The tokenizer must give the ids of the `tokenizers` package, which mixes the Unicode versions of several libraries (one
for categories, one for normal forms, the compiler's for letter case). So the tables are not made from the Unicode
database but by asking that package: every code point goes through its normalizers and pre-tokenizers, alone between
two letters, and what comes out is what the table says. Run it in the environment of test/requirements.txt when the
pinned version of the package changes; --check only compares the file with what it would write.
"""

import argparse
import sys
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

OUTPUT = Path(__file__).parent.parent / "src/runner/tokenizer_tables.inc"

# Bits of a code point's class; the same constants stand in tokenizer_unicode-internal.h.
REMOVED, WHITESPACE, PUNCTUATION, NONSPACING, MARK, WORD, CHINESE, MAPPED = (1 << bit for bit in range(8))

LEAF_BITS = 5  # code points per leaf block
MIDDLE_BITS = 6  # leaf blocks per middle block

HANGUL_FIRST, HANGUL_LAST = 0xAC00, 0xD7A3
SURROGATES = range(0xD800, 0xE000)

LOWEST_CLASS, HIGHEST_CLASS = "\u0334", "\u0345"  # marks of the classes 1 and 240, the ends of what there is


def bert(**on):
    parts = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**{**parts, **on}).normalize_str


class Reference:
    """The reference's operations, each as text to text."""

    clean = staticmethod(bert(clean_text=True))
    chinese = staticmethod(bert(handle_chinese_chars=True))
    accents = staticmethod(bert(strip_accents=True))
    marks = staticmethod(normalizers.StripAccents().normalize_str)
    lower = staticmethod(normalizers.Lowercase().normalize_str)
    nfd = staticmethod(normalizers.NFD().normalize_str)
    nfkd = staticmethod(normalizers.NFKD().normalize_str)
    nfc = staticmethod(normalizers.NFC().normalize_str)
    words = staticmethod(pre_tokenizers.BertPreTokenizer().pre_tokenize_str)


def code_points():
    return (code for code in range(0x110000) if code not in SURROGATES)


def between_letters(function, code):
    """What becomes of the code point between two letters that it leaves alone."""
    text = function("a" + chr(code) + "b")
    assert text[0] == "a" and text[-1] == "b", hex(code)
    return text[1:-1]


def make_word_test():
    """Whether a code point is \\w to the reference: a single_word token beside it is then not found."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "zq": 1}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("zq", single_word=True, normalized=False)])

    def is_word(code):
        before, after = (1 not in tokenizer.encode(text).ids for text in (chr(code) + "zq", "zq" + chr(code)))
        assert before == after, hex(code)
        return before

    return is_word


def probe_flags(code, is_word):
    char = chr(code)
    flags = 0
    cleaned = between_letters(Reference.clean, code)
    splits = len(Reference.words("a" + char + "b"))
    if cleaned == "":
        flags |= REMOVED
    if splits == 2:
        flags |= WHITESPACE
    elif splits == 3:
        flags |= PUNCTUATION
    assert cleaned in ("", char) or (cleaned == " " and splits == 2), hex(code)
    assert cleaned != char or splits != 2 or char == " ", hex(code)
    if between_letters(Reference.nfd, code) == char and between_letters(Reference.accents, code) == "":
        flags |= NONSPACING
    if between_letters(Reference.marks, code) == "":
        flags |= MARK
    if is_word(code):
        flags |= WORD
    chinese = between_letters(Reference.chinese, code)
    if chinese != char:
        assert chinese == f" {char} ", hex(code)
        flags |= CHINESE
    return flags


def find_combining_classes(canonical):
    """Code point to canonical combining class, from the order in which NFD puts pairs of marks.

    The numbers are those of one old mark of each class (they never change); who belongs to it is probed.
    """
    def comes_later(a, b):
        """Whether the class of a is above that of b, both not 0."""
        return a != b and Reference.nfd("a" + a + b) == "a" + b + a

    def is_mark(char):
        """Whether the reference knows a class other than 0 for it."""
        return comes_later(char, LOWEST_CLASS) or comes_later(HIGHEST_CLASS, char)

    samples = {}
    for code in code_points():
        number = unicodedata.combining(chr(code))
        if number and code not in canonical and number not in samples and is_mark(chr(code)):
            samples[number] = chr(code)
    numbers = sorted(samples)
    for low, high in zip(numbers, numbers[1:], strict=False):
        assert comes_later(samples[high], samples[low]) and not comes_later(samples[low], samples[high])
    classes = {}
    for code in code_points():
        char = chr(code)
        if code in canonical or not is_mark(char):
            continue
        same = [n for n in numbers if not comes_later(char, samples[n]) and not comes_later(samples[n], char)]
        assert len(same) == 1, hex(code)
        classes[code] = same[0]
    return classes


def find_compositions(canonical):
    """(first, second) to the code point that NFC makes of them."""
    pairs = {}
    for code, parts in canonical.items():
        text = "".join(map(chr, parts))
        if len(parts) < 2 or Reference.nfc(text) != chr(code):
            continue
        first = Reference.nfc(text[:-1])
        assert len(first) == 1 and Reference.nfc(first + text[-1]) == chr(code), hex(code)
        pairs[ord(first), parts[-1]] = code
    return pairs


def decompose_hangul(code):
    index = code - HANGUL_FIRST
    parts = [0x1100 + index // 588, 0x1161 + index % 588 // 28, 0x11A7 + index % 28]
    return parts if index % 28 else parts[:2]


def probe_all():
    """(flags by code point, canonical, compatible, lower, classes, compositions); compatible only where it differs."""
    is_word = make_word_test()
    flags = [REMOVED] * 0x110000
    canonical, compatible, lower = {}, {}, {}
    for code in code_points():
        flags[code] = probe_flags(code, is_word)
        decomposed = [ord(char) for char in between_letters(Reference.nfd, code)]
        if HANGUL_FIRST <= code <= HANGUL_LAST:
            assert decomposed == decompose_hangul(code)
            assert Reference.nfc("".join(map(chr, decomposed))) == chr(code)
            continue
        if decomposed != [code]:
            canonical[code] = decomposed
        further = [ord(char) for char in between_letters(Reference.nfkd, code)]
        if further != decomposed:
            compatible[code] = further
        lowered = [ord(char) for char in between_letters(Reference.lower, code)]
        if lowered != [code]:
            lower[code] = lowered
    classes = find_combining_classes(canonical)
    for code in {*canonical, *compatible, *lower, *classes}:
        flags[code] |= MAPPED
    return flags, canonical, compatible, lower, classes, find_compositions(canonical)


def to_runs(mapping):
    """Sorted (first, last, step, value) where value(code) is constant along first, first + step, ..., last."""
    runs = []
    for code, value in sorted(mapping.items()):
        if runs and runs[-1][3] == value:
            first, last, step, _ = runs[-1]
            gap = code - last
            if gap == step or (first == last and gap in (1, 2)):
                runs[-1] = (first, code, gap, value)
                continue
        runs.append((code, code, 1, value))
    return runs


def deduplicate(values, size):
    """Values cut into blocks: (index of each block among the different ones, those blocks in a row)."""
    blocks = {}
    index = [blocks.setdefault(tuple(values[at : at + size]), len(blocks)) for at in range(0, len(values), size)]
    return index, [value for block in blocks for value in block]


class Writer:
    def __init__(self):
        self.lines = []

    def array(self, comment, type_name, name, items):
        self.lines += ["", f"/* {comment} */", f"static const {type_name} {name}[{len(items)}] = {{"]
        line = ""
        for item in items:
            if len(line) + len(item) + 1 > 118:
                self.lines.append("  " + line)
                line = ""
            line += item + ","
        self.lines += ["  " + line, "};"]

    def numbers(self, comment, type_name, name, values):
        self.array(comment, type_name, name, [str(value) for value in values])


def write_decompositions(writer, kind, mapping, pool):
    """Adds the table of one kind: runs of neighbours with replacements of one length, which follow each other in the
    pool; the pool is shared, and what stands in it already is used again.
    """
    runs = []
    for code, parts in sorted(mapping.items()):
        if runs and code == runs[-1][1] + 1 and len(parts) == runs[-1][2]:
            runs[-1][1] = code
            runs[-1][3].extend(parts)
        else:
            runs.append([code, code, len(parts), list(parts)])
    text = []
    for first, last, length, parts in runs:
        at = next((i for i in range(len(pool)) if pool[i : i + len(parts)] == parts), len(pool))
        if at == len(pool):
            pool += parts
        text.append("{%#x,%#x,%d,%d}" % (first, last, length, at))
    writer.array(f"{kind} decompositions: first and last code point, length of each, where in decomposition_pool",
                 "struct decomposition_run", f"{kind}_runs", text)


def render():
    flags, canonical, compatible, lower, classes, compositions = probe_all()
    leaf_index, leaves = deduplicate(flags, 1 << LEAF_BITS)
    top, middle = deduplicate(leaf_index, 1 << MIDDLE_BITS)
    expanding = {code: parts for code, parts in lower.items() if len(parts) > 1}
    assert expanding == {0x130: [0x69, 0x307]}, expanding
    deltas = {code: parts[0] - code for code, parts in lower.items() if len(parts) == 1}

    writer = Writer()
    writer.lines += [
        "/* What the reference tokenizer does with each code point.",
        " *",
        f" * Generated by tools/generate_unicode_tables.py from the package tokenizers {tokenizers.__version__}, which",
        " * was asked about every code point; do not edit. tokenizer_unicode.c includes it and says what is what.",
        " */",
        f"#define LEAF_BITS {LEAF_BITS}",
        f"#define MIDDLE_BITS {MIDDLE_BITS}",
    ]
    writer.numbers("by code point >> (LEAF_BITS + MIDDLE_BITS)", "uint8_t", "flag_top", top)
    writer.numbers("by block of flag_top and the bits between", "uint16_t", "flag_middle", middle)
    writer.numbers("by block of flag_middle and the lowest bits: UNICODE_* flags", "uint8_t", "flag_leaves", leaves)
    writer.array("what to add for lower case; U+0130, which becomes two, is in the code", "struct code_run",
                 "lower_runs", ["{%#x,%#x,%d,%d}" % run for run in to_runs(deltas)])
    writer.array("canonical combining classes that are not 0", "struct code_run", "class_runs",
                 ["{%#x,%#x,%d,%d}" % run for run in to_runs(classes)])
    pool = []
    write_decompositions(writer, "canonical", canonical, pool)
    write_decompositions(writer, "compatible", compatible, pool)
    writer.array("what decompositions are made of", "uint32_t", "decomposition_pool", [f"{code:#x}" for code in pool])
    writer.array("first and second code point and what NFC makes of them", "struct composition", "compositions",
                 ["{%#x,%#x,%#x}" % (*pair, code) for pair, code in sorted(compositions.items())])
    return "\n".join(writer.lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the file is not what would be written")
    arguments = parser.parse_args()
    text = render()
    if not arguments.check:
        OUTPUT.write_text(text)
    elif OUTPUT.read_text() != text:
        sys.exit(f"{OUTPUT.name} is not what tokenizers {tokenizers.__version__} does; generate it again")


main()
