"""Prompts: seeded, unique, of a length in tokens that was calibrated on the server itself.

Uniqueness matters: a prompt seen before is answered from the prefix cache, and then prefill was not measured. The same
study gives the same prompts to every variant, so that differences are the variant's.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from msgspec import Struct

from collector.errors import UsageFault
from collector.study import Prompts, Study, Workload

__all__ = ["Calibration", "Prompt", "PromptMaker", "load_jsonl"]

Prompt = str | list[int] | list[dict[str, str]]  # text, token ids, or chat messages
_MAX_FILE_BYTES = 64 << 20

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


class _Message(Struct):
    role: str
    content: str


class _Line(Struct):
    prompt: str | None = None
    messages: list[_Message] | None = None


class PromptMaker:
    """Makes the prompts of one study."""

    def __init__(self, study: Study, calibration: Calibration) -> None:
        self.seed = study.seed
        self._kind: Prompts = study.prompts
        self._calibration = calibration
        self._files: dict[str, list[Prompt]] = {}

    def words(self, count: int, key: str) -> str:
        """`count` words that depend on the study's seed and `key` alone."""
        rng = self._rng(key)
        if self._kind.kind == "id_words":
            return " ".join(f"w{rng.randrange(16, self._kind.vocabulary)}" for _ in range(count))
        # Random words from the first on: two prompts share no prefix beyond chance.
        return " ".join(rng.choices(_WORDS, k=count))

    def ids(self, count: int, key: str) -> list[int]:
        """`count` token ids that follow from the study's seed and `key`; the lowest ids are left to control tokens."""
        rng = self._rng(key)
        return [rng.randrange(16, self._kind.vocabulary) for _ in range(count)]

    def prompt(self, workload: Workload, load: str, repeat: int, index: int, *, warmup: bool = False) -> str:
        """One prompt of plain words; warm-up prompts are others than the measured ones."""
        return self.words(self._calibration.words(workload.input_tokens), _key(workload, load, repeat, index, warmup))

    def prompts(
        self, workload: Workload, load: str, number: int, count: int, *, width: int = 1, warmup: bool = False
    ) -> list[Prompt]:
        """The prompts of one repeat in the order of issue.

        Args:
            number: which set; no two sets of a study share a prompt, but for shared prefixes and short files.
            width: requests in flight: conversations are dealt out so that a turn is answered before the next is sent.

        Raises:
            UsageFault: the prompts file cannot be used.
        """
        if workload.prompts == "multi_turn":
            return self._conversations(workload, load, number, count, width, warmup)
        if workload.prompts == "jsonl" and not warmup:
            return self._from_file(workload.prompts_file, number, count)
        if workload.prompts == "shared_prefix":
            return [self._prefixed(workload, _key(workload, load, number, i, warmup), i) for i in range(count)]
        if workload.token_ids:
            tokens = workload.input_tokens
            return [self.ids(tokens, _key(workload, load, number, i, warmup)) for i in range(count)]
        return [self.prompt(workload, load, number, i, warmup=warmup) for i in range(count)]

    def _rng(self, key: str) -> random.Random:
        return random.Random(f"{self.seed}/{key}")  # noqa: S311 - repeatable text, no secret

    def _prefixed(self, workload: Workload, key: str, index: int) -> Prompt:
        """A prefix that the group shares in all repeats, as a system prompt is, and a rest of its own."""
        group = f"prefix/{workload.name}/{index % workload.prefix_groups}"
        rest = workload.input_tokens - workload.prefix_tokens
        if workload.token_ids:
            return self.ids(workload.prefix_tokens, group) + self.ids(rest, key)
        prefix = self.words(max(1, round(workload.prefix_tokens / self._calibration.per_word)), group)
        return f"{prefix} {self.words(self._calibration.words(rest), key)}"

    def _conversations(
        self, workload: Workload, load: str, number: int, count: int, width: int, warmup: bool
    ) -> list[Prompt]:
        """Blocks of `width` conversations: the first turn of each, then the second of each, and so on."""
        made: list[Prompt] = []
        block = 0
        while len(made) < count:
            talks = [
                self._talk(workload, _key(workload, load, number, block * width + i, warmup)) for i in range(width)
            ]
            made += [talk[turn] for turn in range(workload.turns) for talk in talks]
            block += 1
        return made[:count]

    def _talk(self, workload: Workload, key: str) -> list[Prompt]:
        """The requests of one conversation, each with all that came before it; the last has about input_tokens."""
        turns = workload.turns
        answer = workload.output_tokens
        asked = max(1, (workload.input_tokens - (turns - 1) * answer) // turns)
        per_word = self._calibration.per_word
        messages: list[dict[str, str]] = []
        requests: list[Prompt] = []
        for turn in range(turns):
            question = self.words(max(1, round(asked / per_word)), f"{key}/user/{turn}")
            messages.append({"role": "user", "content": question})
            if workload.api == "chat":
                requests.append([dict(m) for m in messages])
            else:
                requests.append("\n".join(m["content"] for m in messages))
            reply = self.words(max(1, round(answer / per_word)), f"{key}/assistant/{turn}")
            messages.append({"role": "assistant", "content": reply})
        return requests

    def _from_file(self, path: str, number: int, count: int) -> list[Prompt]:
        """Set by set through the file, from the first line again where it ends."""
        if path not in self._files:
            self._files[path] = load_jsonl(Path(path))
        lines = self._files[path]
        first = max(0, number - 1) * count
        return [lines[(first + i) % len(lines)] for i in range(count)]


def _key(workload: Workload, load: str, number: int, index: int, warmup: bool) -> str:
    return f"{'warmup' if warmup else 'measure'}/{workload.name}/{load}/{number}/{index}"


def load_jsonl(path: Path) -> list[Prompt]:
    """The prompts of a file: one JSON object a line with `prompt` (text) or `messages` (role and content).

    Raises:
        UsageFault: no such file, too large, not UTF-8, a line that is no such object, or no line at all.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise UsageFault(f"{path.name} is larger than {_MAX_FILE_BYTES >> 20} MiB", fix="cut the file")
        lines = path.read_text("utf-8").splitlines()
    except OSError as e:
        raise UsageFault(f"prompts_file {path}: {e.strerror}", fix="give a path from the folder you run in") from None
    except UnicodeDecodeError:
        raise UsageFault(f"prompts_file {path.name} is not UTF-8 text", fix="save it as UTF-8") from None
    made: list[Prompt] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                one = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError as e:
                raise UsageFault(f"{path.name} line {number}: {e}", fix='{"prompt": "..."} a line') from None
            if (one.prompt is None) == (one.messages is None):
                problem = f"{path.name} line {number} has neither or both of `prompt` and `messages`"
                raise UsageFault(problem, fix="one of them")
            if one.messages is not None:
                made.append([{"role": m.role, "content": m.content} for m in one.messages])
            elif one.prompt is not None:
                made.append(one.prompt)
    if not made:
        raise UsageFault(f"prompts_file {path.name} holds no prompt", fix='{"prompt": "..."} a line')
    return made
