"""A labelled set from a seed: what a shop's customers want, 23 intents, after the experiment log's task (seed 004).

The sentences are generated, so the set needs no download and no licence; a study that has real texts names its file.
"""

from __future__ import annotations

from collector.quality.exact import COLOURS, NAMES, PLACES, THINGS
from collector.quality.items import seeded

__all__ = ["INTENTS", "texts"]

INTENTS: dict[str, list[str]] = {
    "track_order": ["where is order {n}", "has my {thing} left for {place} yet"],
    "cancel_order": ["please cancel order {n}", "i do not want the {thing} any more, stop the order"],
    "change_address": ["send order {n} to {place} instead", "my new address is in {place}"],
    "change_order": ["make it {k} of the {thing} and not one", "can i have the {thing} in {colour} instead"],
    "return_item": ["i want to send the {thing} back", "how do i return the {colour} {thing}"],
    "refund_status": ["when do i get my money back for order {n}", "the refund for the {thing} is not here"],
    "damaged_item": ["the {thing} came broken", "my {colour} {thing} has a crack"],
    "wrong_item": ["i got a {thing2} and ordered a {thing}", "this is not the {colour} {thing} that i chose"],
    "missing_item": ["one {thing} is missing from the box", "order {n} came without the {thing}"],
    "late_delivery": ["order {n} is {k} days late", "the {thing} should have come last week"],
    "delivery_cost": ["what does shipping to {place} cost", "is delivery free for a {thing}"],
    "delivery_time": ["how long does it take to {place}", "how many days until the {thing} comes"],
    "payment_failed": ["my card was refused for order {n}", "i cannot pay for the {thing}"],
    "payment_methods": ["can i pay the {thing} by invoice", "which cards do you take in {place}"],
    "invoice": ["send me the bill for order {n}", "i need an invoice for the {thing}"],
    "discount": ["do you have a coupon for a {thing}", "is there a lower price if i take {k}"],
    "product_question": ["how heavy is the {thing}", "what is the {colour} {thing} made of"],
    "stock": ["is the {colour} {thing} in stock", "when can i buy the {thing} again"],
    "warranty": ["how long is the warranty of the {thing}", "the {thing} stopped working after {k} months"],
    "account_login": ["i cannot log in as {name}", "my password does not work"],
    "delete_account": ["delete the account of {name}", "remove all my data please"],
    "complaint": ["nobody has answered {name} for {k} days", "your service in {place} is terrible"],
    "praise": ["thank you, the {thing} is wonderful", "{name} in your team helped me so well"],
}


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` (text, label) pairs, the intents in turn."""
    labels = sorted(INTENTS)
    made = []
    for number in range(count):
        r = seeded("intents", seed, number)
        label = labels[number % len(labels)]
        sentence = r.choice(INTENTS[label]).format(
            n=r.randint(1000, 9999), k=r.randint(2, 9), thing=r.choice(THINGS), thing2=r.choice(THINGS),
            place=r.choice(PLACES), colour=r.choice(COLOURS), name=r.choice(NAMES),
        )  # fmt: skip
        made.append((sentence, label))
    return made
