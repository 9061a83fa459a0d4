"""Prompts: seeded, unique, of a length in tokens that was calibrated on the server itself.

Uniqueness matters: a prompt seen before is answered from the prefix cache, and then prefill was not measured. The same
study gives the same prompts to every variant, so that differences are the variant's.
"""

from __future__ import annotations

import random

from msgspec import Struct

from collector.study import Prompts, Study, Workload

__all__ = ["Calibration", "PromptMaker"]

# Plain, frequent words: about one token each in every common tokenizer.
_WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea kid body "
    "information back parent face others level office door health person art war history party result change morning "
    "winter summer reason girl guy moment air teacher force river garden market paper letter music table window "
    "light sound road train ship stone field forest island village bridge engine picture answer number color "
    "good new first last long great little own other old right big high different small large next early young "
    "important few public bad same able be have do say get make go know take see come think look want give use find "
    "tell ask seem feel try leave call keep let begin help show hear play run move live believe hold bring happen "
    "write provide sit stand lose pay meet include continue set learn lead understand watch follow stop create speak "
    "read allow add spend grow open walk win offer remember love consider appear buy wait serve die send expect build "
    "stay fall cut reach kill remain suggest raise pass sell require report decide pull"
).split()


class Calibration(Struct):
    """Prompt tokens = fixed + per_word x words, as the server counted them."""

    fixed: float = 0.0
    per_word: float = 1.3

    @classmethod
    def of(cls, short: tuple[int, int], long: tuple[int, int]) -> Calibration:
        """From two (words, prompt tokens) that a server counted; words must differ."""
        per_word = max(0.05, (long[1] - short[1]) / (long[0] - short[0]))
        return cls(fixed=short[1] - per_word * short[0], per_word=per_word)

    def words(self, tokens: int) -> int:
        """How many words make a prompt of about that many tokens."""
        return max(1, round((tokens - self.fixed) / self.per_word))


class PromptMaker:
    """Makes the prompts of one study."""

    def __init__(self, study: Study, calibration: Calibration) -> None:
        self.seed = study.seed
        self._kind: Prompts = study.prompts
        self._calibration = calibration

    def words(self, count: int, key: str) -> str:
        """`count` words that depend on the study's seed and `key` alone."""
        rng = random.Random(f"{self.seed}/{key}")  # noqa: S311 - repeatable text, no secret
        if self._kind.kind == "id_words":
            return " ".join(f"w{rng.randrange(16, self._kind.vocabulary)}" for _ in range(count))
        # Random words from the first on: two prompts share no prefix beyond chance.
        return " ".join(rng.choices(_WORDS, k=count))

    def prompt(self, workload: Workload, load: str, repeat: int, index: int, *, warmup: bool = False) -> str:
        """The prompt of one request; warm-up prompts are others than the measured ones."""
        key = f"{'warmup' if warmup else 'measure'}/{workload.name}/{load}/{repeat}/{index}"
        return self.words(self._calibration.words(workload.input_tokens), key)
