"""Texts from a seed in three domains, prose, code and chat: what `likelihood` scores and what hides a needle.

The sentences mean something, so that a trained model finds them likelier than noise; they are made of patterns, so they
are nobody's. A study that asks about real documents names its own file.
"""

from __future__ import annotations

import random

from collector.quality.exact import COLOURS, NAMES, PLACES, THINGS, WORDS
from collector.quality.items import seeded

__all__ = ["DOMAINS", "document", "prose_sentence"]

DOMAINS = ("prose", "code", "chat")

_PROSE = [
    "{name} walked to the {word} and saw a {colour} {thing} near the door.",
    "In {place} the {word} is cold in winter, but the people there like it.",
    "After the meeting {name} wrote a short report about the {thing} and sent it to {name2}.",
    "The {thing} costs {n} dollars, which is more than last year.",
    "Because the {word} was closed, {name} and {name2} went back to {place}.",
    "There are {k} rooms in the house, and each of them has a {colour} {thing}.",
    "Nobody knew why the {thing} had been left under the {word}.",
    "It took {k} days to move the {thing} from {place} to {place2}.",
    "When the {word} is {colour}, the old story says, a letter will come from {place}.",
    "{name} reads the paper every morning and drinks coffee before work.",
    "The company in {place} sells a {thing}, a {thing2} and many other things.",
    "If the price goes up again, {name} will buy the {colour} {thing} from somebody else.",
]
_CODE = [
    "def {fn}({a}, {b}):\n    return {a} {op} {b}\n",
    "def {fn}(numbers):\n    total = 0\n    for number in numbers:\n        total = total + number\n    return total\n",
    "{a} = {n}\n{b} = {k}\nif {a} > {b}:\n    print({a} - {b})\nelse:\n    print({a} + {b})\n",
    "class {cls}:\n    def __init__(self, name):\n        self.name = name\n\n"
    "    def {fn}(self):\n        return self.name\n",
    "for i in range({k}):\n    print(i * {n})\n",
    'with open("{thing}.txt") as file:\n    for line in file:\n        print(line.strip())\n',
    "{a} = [{k}, {n}, {k}]\n{a}.sort()\nprint({a}[0])\n",
    "def {fn}(text):\n    words = text.split()\n    return len(words)\n",
]
_CHAT = [
    "user: Where is my {thing}?\nassistant: Your {thing} left {place} and will come in {k} days.\n",
    "user: How much is the {colour} {thing}?\nassistant: The {colour} {thing} costs {n} dollars.\n",
    "user: Can you help me?\nassistant: Of course. What can I do for you, {name}?\n",
    "user: What is the weather in {place}?\nassistant: In {place} it is warm and dry today.\n",
    "user: Please write to {name}.\nassistant: Dear {name}, the {thing} is ready. Please call us.\n",
    "user: I want to send the {thing} back.\nassistant: No problem. Please put the {thing} into its box.\n",
    "user: How many days are in {k} weeks?\nassistant: There are {days} days in {k} weeks.\n",
    "user: Thank you!\nassistant: You are welcome. Have a good day, {name}.\n",
]
_PATTERNS = {"prose": (_PROSE, " "), "code": (_CODE, "\n"), "chat": (_CHAT, "")}
_FUNCTIONS = "add count find total check price update load sort read write sum first last".split()
_VARIABLES = "a b x y n value number size count result".split()


def _fill(pattern: str, r: random.Random) -> str:
    k = r.randint(2, 9)
    (a, b), (place, place2), (name, name2) = r.sample(_VARIABLES, 2), r.sample(PLACES, 2), r.sample(NAMES, 2)
    return pattern.format(
        name=name, name2=name2, place=place, place2=place2,
        thing=r.choice(THINGS), thing2=r.choice(THINGS), word=r.choice(WORDS), colour=r.choice(COLOURS),
        n=r.randint(10, 99), k=k, days=7 * k, a=a, b=b, fn=r.choice(_FUNCTIONS), op=r.choice("+-*"),
        cls=r.choice(THINGS).capitalize(),
    )  # fmt: skip


def prose_sentence(r: random.Random) -> str:
    """One sentence of prose."""
    return _fill(r.choice(_PROSE), r)


def document(domain: str, number: int, seed: int, sentences: int = 40) -> str:
    """A text of a domain. The first n sentences of a longer one are the same."""
    r = seeded("texts", seed, domain, number)
    patterns, between = _PATTERNS[domain]
    return between.join(_fill(r.choice(patterns), r) for _ in range(sentences))
