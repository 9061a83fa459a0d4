"""Items with one right answer, made from a seed: nothing to memorize, as many as a question needs.

Eight tasks in turn: arithmetic, dates, extraction, JSON to a schema, format following, lists, strings, and short code
that is read and never run: the right answer is worked out by the same Python that wrote the item.
"""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable

from collector.bundle.answers import QualityItem
from collector.quality.items import item, seeded

__all__ = ["TASKS", "items"]

_NAMES = (
    "Anna Ben Carla David Elena Felix Grace Henry Ines Jonas Karen Liam Maria Noah Olga Peter Rosa Simon Tara Victor"
)
_PLACES = "Berlin Oslo Lisbon Madrid Paris Rome Vienna Dublin Athens Prague Warsaw Helsinki"
_THINGS = "lamp chair table bread pear book watch phone letter picture window box bottle clock map coat ticket camera"
_WORDS = (
    "water stone light plant river house music paper money world story night green white plane horse table ocean "
    "forest garden kitchen window computer program letter market winter summer silver bridge island"
)
_COLOURS = "red green blue white black yellow brown silver"
NAMES, PLACES, THINGS, WORDS, COLOURS = (x.split() for x in (_NAMES, _PLACES, _THINGS, _WORDS, _COLOURS))

Made = tuple[str, str, str, int]  # prompt, reference, scorer, most output tokens


def _arithmetic(r: random.Random) -> Made:
    kind = r.choice(["plus", "plus", "minus", "times", "chain"])
    if kind == "plus":
        a, b = r.randint(10, 999), r.randint(10, 999)
        ask, right = f"{a} + {b}", a + b
    elif kind == "minus":
        a, b = sorted((r.randint(10, 999), r.randint(10, 999)), reverse=True)
        ask, right = f"{a} - {b}", a - b
    elif kind == "times":
        a, b = r.randint(3, 99), r.randint(2, 12)
        ask, right = f"{a} * {b}", a * b
    else:
        a, b, c = r.randint(2, 60), r.randint(2, 60), r.randint(2, 30)
        ask, right = f"{a} + {b} - {c}", a + b - c
    return f"What is {ask}? Reply with the number only.", str(right), "number", 16


def _dates(r: random.Random) -> Made:
    day = datetime.date(2024, 1, 1) + datetime.timedelta(days=r.randint(0, 1400))
    step = r.randint(1, 40)
    if r.random() < 0.6:
        later = day + datetime.timedelta(days=step)
        return f"Which date is {step} days after {day}? Reply as YYYY-MM-DD.", str(later), "text", 16
    other = day + datetime.timedelta(days=step)
    return f"How many days are there from {day} to {other}? Reply with the number only.", str(step), "number", 16


def _extraction(r: random.Random) -> Made:
    name, place, thing = r.choice(NAMES), r.choice(PLACES), r.choice(THINGS)
    order, count, price = r.randint(1000, 9999), r.randint(2, 19), r.randint(5, 95)
    note = (
        f"Order {order}: {name} from {place} bought {count} of the article {thing} "
        f"for {price} dollars each and pays by card."
    )
    what, right, scorer = r.choice(
        [
            ("the customer's name", name, "text"),
            ("the city", place, "text"),
            ("the article", thing, "text"),
            ("the order number", str(order), "number"),
            ("the price of one article in dollars", str(price), "number"),
        ]
    )
    return f"{note}\nWhat is {what}? Reply with that only.", right, scorer, 16


def _json(r: random.Random) -> Made:
    name, place, age, member = r.choice(NAMES), r.choice(PLACES), r.randint(18, 80), r.random() < 0.5
    text = f"{name} is {age} years old, lives in {place} and is {'' if member else 'not '}a member."
    keys = r.sample(["name", "age", "city", "member"], r.randint(2, 4))
    value = {k: {"name": name, "age": age, "city": place, "member": member}[k] for k in keys}
    kinds = {"name": "string", "age": "number", "city": "string", "member": "true or false"}
    schema = ", ".join(f'"{k}" ({kinds[k]})' for k in keys)
    return f"{text}\nWrite one JSON object with the keys {schema}. Reply with JSON only.", json.dumps(value), "json", 64


def _format(r: random.Random) -> Made:
    words = r.sample(COLOURS, 3)
    said = ", ".join(words)
    kind = r.randrange(4)
    if kind == 0:
        return f"Write {said} in capital letters, one word on each line.", "\n".join(words).upper(), "lines", 24
    if kind == 1:
        return f"Write {said} as a numbered list, like 1. 2. 3.", _numbered(words), "lines", 24
    if kind == 2:
        return f"Write {said} on one line with a semicolon between them.", ";".join(words), "lines", 24
    return f"Write {said} as a list where each line starts with a dash and a space.", _dashed(words), "lines", 24


def _numbered(words: list[str]) -> str:
    return "\n".join(f"{i}. {w}" for i, w in enumerate(words, 1))


def _dashed(words: list[str]) -> str:
    return "\n".join(f"- {w}" for w in words)


def _lists(r: random.Random) -> Made:
    numbers = r.sample(range(2, 99), r.randint(4, 6))
    said = ", ".join(map(str, numbers))
    kind = r.randrange(4)
    if kind == 0:
        return f"Sort from small to large: {said}", ", ".join(map(str, sorted(numbers))), "text", 32
    if kind == 1:
        return (
            f"What is the largest of these numbers: {said}? Reply with the number only.",
            str(max(numbers)),
            "number",
            16,
        )
    if kind == 2:
        return (
            f"How many numbers are in this list: {said}? Reply with the number only.",
            str(len(numbers)),
            "number",
            16,
        )
    return f"Write this list in reverse order: {said}", ", ".join(map(str, numbers[::-1])), "text", 32


def _strings(r: random.Random) -> Made:
    word, other = r.sample(WORDS, 2)
    kind = r.randrange(6)
    if kind == 4:
        return f'Join "{word}" and "{other}" with a dash. Reply with the result only.', f"{word}-{other}", "text", 32
    if kind == 5:
        place = r.randint(2, 4)
        return f'What is letter number {place} of "{word}"? Reply with one letter.', word[place - 1], "text", 16
    if kind == 0:
        return f'Write the letters of "{word}" in reverse order. Reply with one word.', word[::-1], "text", 24
    if kind == 1:
        return f'How many letters has the word "{word}"? Reply with the number only.', str(len(word)), "number", 16
    if kind == 2:
        return f'What is the last letter of "{word}"? Reply with one letter.', word[-1], "text", 16
    return f'Spell "{word}" with a dash between the letters.', "-".join(word), "text", 32


def _code(r: random.Random) -> Made:
    a, b, n = r.randint(1, 9), r.randint(1, 9), r.randint(2, 6)
    numbers = r.sample(range(1, 30), 4)
    kind = r.randrange(4)
    if kind == 0:
        code, right = f"x = {a}\nfor i in range({n}):\n    x = x + {b}\nprint(x)", str(a + n * b)
    elif kind == 1:
        code, right = f"numbers = {numbers}\nprint(numbers[{n % 4}])", str(numbers[n % 4])
    elif kind == 2:
        code, right = (
            f"a = {a}\nb = {b}\nif a > b:\n    print(a - b)\nelse:\n    print(a + b)",
            str(a - b if a > b else a + b),
        )
    else:
        code, right = f"numbers = {numbers}\nprint(len(numbers) + max(numbers))", str(4 + max(numbers))
    return f"What does this Python program print?\n{code}\nReply with the output only.", right, "number", 16


TASKS: dict[str, Callable[[random.Random], Made]] = {
    "arithmetic": _arithmetic,
    "dates": _dates,
    "extraction": _extraction,
    "json": _json,
    "format": _format,
    "lists": _lists,
    "strings": _strings,
    "code": _code,
}


def items(suite: str, count: int, seed: int) -> list[QualityItem]:
    """`count` items, the tasks in turn; the first n of more are the same as n alone. No prompt stands twice."""
    made: list[QualityItem] = []
    seen: set[str] = set()
    number = 0
    while len(made) < count:
        for task, make in TASKS.items():
            for attempt in range(1000):
                prompt, reference, scorer, tokens = make(seeded("exact", seed, task, number, attempt))
                if prompt not in seen:
                    break
            else:
                continue  # this task has nothing new to ask; arithmetic and others have
            if len(made) == count:
                break
            seen.add(prompt)
            made.append(item(suite, task, number, prompt, reference=reference, scorer=scorer, output_tokens=tokens))
        number += 1
    return made
