"""A dictionary of a few words in the format of WordNet's database files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

LICENCE = "  1 This dictionary may be used for any purpose.  \n"
MEANINGS: Mapping[str, Sequence[Sequence[str]]] = {
    "noun": [
        ["jacket", "coat"],
        ["shoes", "footwear"],
        ["phone", "telephone", "telephone_set"],
        ["kids", "children"],
        ["video", "picture"],
        ["couch", "sofa", "lounge"],
        ["laptop", "notebook"],
        ["Paris", "City_of_Light"],
    ],
    "adj": [["beautiful", "lovely(a)"], ["red", "crimson"]],
    "verb": [["shop", "browse"], ["phone", "call", "ring"]],
    "adv": [["quickly", "rapidly", "speedily"]],
}
MET = {("verb", "phone"): 2, ("noun", "phone"): 1}
"""Senses that were met in texts."""
LETTERS = {"noun": "n", "adj": "a", "verb": "v", "adv": "r"}


def write_wordnet(folder: Path) -> Path:
    """Write the dictionary; its words' first sense is the first meaning that has them."""
    folder.mkdir(parents=True)
    for kind, meanings in MEANINGS.items():
        letter = LETTERS[kind]
        data, senses = LICENCE, {}
        for words in meanings:
            offset = f"{len(data):08d}"
            listed = " ".join(f"{word} 0" for word in words)
            # One pointer, to itself, because an index line's senses come after the pointers.
            data += f"{offset} 06 {letter} {len(words):02x} {listed} 001 ! {offset} {letter} 0000"
            data += ' | what it means: a thing; "as in this"  \n'
            for word in words:
                senses.setdefault(word.partition("(")[0].lower(), []).append(offset)
        index = LICENCE + "".join(
            f"{word} {letter} {len(found)} 1 ! {len(found)} {MET.get((kind, word), 0)} "
            f"{' '.join(found)}  \n"
            for word, found in sorted(senses.items())
        )
        (folder / f"data.{kind}").write_text(data, encoding="utf-8")
        (folder / f"index.{kind}").write_text(index, encoding="utf-8")
    return folder
