"""Takes secrets and names out of logs, command lines and messages before they are written anywhere.

What goes: keys and tokens by their shape or by the name before them, private keys, credentials and signatures in URLs,
`Authorization` headers, home folders, the host's name and names of rented machines, e-mail and MAC addresses, cloud
accounts and instances, and IP addresses other than loopback and `0.0.0.0`.

What stays, because figures rest on it: ids of models, hashes, numbers, names of kernels, versions. Four numbers with
dots are an address unless something beside them says that they are a version (`cudnn 9.10.2.21`, `==12.8.4.1`).

`redact` gives the text; `find` says what it would take, by kind and line, for words that are a person's own.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

__all__ = ["REMOVED", "Finding", "find", "is_secret_name", "redact", "redact_argv", "redact_version"]

REMOVED = "[removed]"


class Finding(NamedTuple):
    """Something in a text that looks like a secret or names somebody. It never holds the thing itself."""

    kind: str
    line: int  # counted from 1


# Keys that show by their shape. Shapes: the issuers' documentation, and gitleaks' rules (github.com/gitleaks/gitleaks).
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_(?=[A-Za-z]*[A-Z0-9])[A-Za-z0-9]{6,}|hf_[A-Za-z0-9]{16,}"  # Hugging Face; `hf_overrides` is a vLLM option
    r"|sk-(?=[A-Za-z0-9_-]*[A-Z0-9])[A-Za-z0-9_-]{6,}|sk-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic (sk-ant-), others
    r"|nvapi-[A-Za-z0-9_-]{6,}"
    r"|gh[pousr]_[A-Za-z0-9]{10,}|github_pat_[A-Za-z0-9_]{10,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{12,}"  # AWS access key ids
    r"|AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,}"  # Google
    r"|xox[abprs]-[A-Za-z0-9-]{8,}"  # Slack
    r"|rpa_[A-Za-z0-9]{20,}"  # RunPod
    r"|secret_[A-Za-z0-9-]{1,64}_[0-9a-f]{16,}(?:\.[A-Za-z0-9]{8,})?"  # Lambda Cloud
    r"|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}"  # Groq, xAI, Replicate
    r"|npm_[A-Za-z0-9]{30,}|pypi-AgE[A-Za-z0-9_-]{30,}|dckr_pat_[A-Za-z0-9_-]{16,}|dapi[0-9a-f]{32}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"  # JWT
    r")"
)
# From the first line of a private key to its last; without one, as long as lines look like base64.
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?s:.{0,20000}?)-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{16,})*)"
)
_SSH = re.compile(r"\b(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-[a-z0-9-]{1,20}) AAAA[A-Za-z0-9+/=]{16,}")

_HEADER = re.compile(
    r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?)(?!(?:none|null|\[removed\])(?![\w-]))"
    r"(?:digest\s[^\r\n]*|(?:(?:bearer|basic|token|apikey|negotiate|aws4-hmac-sha256)\s+)?[^\s\"',;\]})]+)"
)
# "bearer token is missing" is prose: one short word of small letters is no key.
_BEARER = re.compile(r"(?i:\b(bearer\s+))(?!(?:[a-z]{1,14}|\[removed\])(?![\w./+=-]))[^\s\"',;\]})]+")

# Keys that show by the name before them. `eos_token` and `max_tokens` are not of them. The words before are bounded: a
# log line of 20,000 characters without a blank must not take seconds.
_NAME = (
    r"(?:[A-Za-z0-9]{1,24}[-_]){0,8}(?:api[-_]?keys?"
    r"|(?:hf|hub|auth|access|api|session|bearer|refresh|security|github|gitlab|jupyter|runpod|wandb|registry)[-_]?token"
    r"|password|passwd|passphrase|secret(?:[-_]?access)?(?:[-_]?key)?|credentials?|connection[-_]?string"
    r"|(?:private|account|signing|encryption|shared[-_]?access)[-_]?key|aws[-_]?access[-_]?key[-_]?id|set[-_]?cookie"
    r"|(?:pod|instance|tenant|subscription)[-_]?id|aws[-_]?account[-_]?id|public[-_]?ipaddr)"
)
_VALUE = r"[^\s\"',;\]})]+"
_NAMED = re.compile(
    rf"(?i)(?<![A-Za-z0-9])(?P<name>-{{0,2}}{_NAME})(?P<sep>[\"']?\s*(?:[:=]|,(?=\s*[\"']))\s*)"
    rf"(?P<value>\[[^\]]*\]|\([^)]*\)|\"[^\"]*\"|'[^']*'|{_VALUE})"
)
_FLAG = re.compile(rf"(?i)(?<!\S)(?P<name>--(?:{_NAME}|token)|-hft)(?P<sep>\s+)(?P<value>\"[^\"]*\"|'[^']*'|(?!-)\S+)")
_SECRET_FLAG = re.compile(rf"(?i)(?:--?(?:{_NAME}|authorization|token)|-hft)$")
# NAME_TOKEN=... as a shell writes it. Tokens of a vocabulary are none.
_ENV = re.compile(
    r"(?<![A-Za-z0-9_])(?P<name>(?!(?:[A-Z0-9]{1,24}_){0,4}(?:EOS|BOS|PAD|UNK|SEP|CLS|MASK|STOP|MAX|MIN|NUM|PER)_TOKEN)"
    r"(?:[A-Z0-9]{1,24}_){1,6}TOKEN)(?P<sep>=)(?!\[removed\])(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"',;\]})]+)"
)
_SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:(?:api_?|access_?|private_?|secret_?|account_?)?key|token|secret|password|passwd|passphrase"
    r"|credentials?|auth|authorization|cookie|dsn)s?$|aws_access_key_id$"
)

_URL_CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^/\s@\"'<>]*@")
_URL_SIGNATURE = re.compile(
    r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|signature|sig|policy"
    r"|key-pair-id|token|access_token|auth|key|code)=)(?!\[removed\])[^&\s\"'<>)\]]+"
)
_HOMES = re.compile(r"(?:/home|/Users)/[^/\s\"':,;)\]}]+|(?<![\w.~-])/root(?![\w.-])")
_WINDOWS_HOMES = re.compile(r"(?i)\b[a-z]:(?:\\\\?|/)Users(?:\\\\?|/)[^\\/\s\"':,;)\]}]+")
_INDUCTOR = re.compile(r"(?<=torchinductor_)(?!user(?![\w.-]))[\w.-]+")  # torch names its cache after the user
# Names that rented and internal machines have; `threading.local` is none, so a digit or a hyphen has to be there.
_MACHINES = re.compile(
    r"(?i)(?<![\w.-])(?:ip-\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}(?:\.[\w-]{1,63}){0,5}"
    r"|(?=[a-z0-9-]{0,62}[\d-])[a-z0-9][a-z0-9-]{0,62}(?:\.[a-z0-9-]{1,63}){0,4}\.(?:internal|local|lan|corp|intranet)"
    r"|(?:[a-z0-9-]{1,63}\.){1,4}(?:runpod\.(?:net|io)|lambdalabs\.cloud|compute\.amazonaws\.com|cloudapp\.azure\.com"
    r"|trycloudflare\.com|ngrok(?:-free)?\.(?:app|io)|vast\.ai))(?![\w-]|\.\w)"
)
_CLOUD = re.compile(
    r"(?<![\w-])(?:i-(?:[0-9a-f]{17}|[0-9a-f]{8})(?![\w-])|arn:aws[\w-]{0,20}:[^\s\"',;)\]}]+)"
    r"|(?<![\w/])/?subscriptions/[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|\bprojects/\d{9,15}(?!\w)"
    r"|(?<![\w.-])metadata\.google\.internal(?![\w-])"
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_MAC = re.compile(
    r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])"
    r"|(?<![\w-])(?=[0-9-]*[A-Fa-f])(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}(?![\w-])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_])(?:[0-9A-Fa-f]{1,4}(?:::?[0-9A-Fa-f]{1,4}){1,15}(?:::)?|[0-9A-Fa-f]{1,4}::"
    r"|(?<!:)::[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,7})(?:%[\w.-]+)?(?![0-9A-Za-z_])"
)
_VERSION_BEFORE = re.compile(
    r"(?i)(?:\bver(?:sion|\.)?[\"']?\s*[:=]?\s*[\"']?|[=~<>!]=\s*[\"']?"
    r"|(?:cuda|cudnn|cublas|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvjitlink|nvshmem|cupti|tensorrt|cutlass|rocm|-cu)"
    r"[a-z0-9_-]{0,12}[\s:=/-]{1,3}[\"']?)$"
)
_VERSION_AFTER = re.compile(r"[-+](?:py|cp|cu|rc|dev|post|linux|manylinux)")
_MOST_BEFORE = 40  # characters before four numbers that may say that they are a version
# A host that is called like a part of the engine would take the evidence out of every log.
_ORDINARY = {
    "vllm", "llama", "llamacpp", "cuda", "engine", "server", "worker", "model", "main", "docker", "ubuntu", "debian",
    "linux", "nvidia", "python", "torch", "triton", "flashinfer", "marlin", "cutlass", "host", "info", "warning",
    "error", "bench", "test", "quantcase", "removed",
}  # fmt: skip


def redact(text: str) -> str:
    """The text without secrets, home paths, names of machines and addresses. Line breaks stay where they are."""
    return _cleaned(text, None)


def find(text: str) -> list[Finding]:
    """What `redact` would take out, by kind and line, in the order of lines."""
    found: list[Finding] = []
    _cleaned(text, found)
    return sorted(set(found), key=lambda f: (f.line, f.kind))


def redact_version(text: str) -> str:
    """The same for a text that is known to be a version: four numbers with dots stay."""
    return redact(f"=={text}").removeprefix("==")


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of that name holds a secret, whatever it looks like."""
    return bool(_SECRET_NAME.search(name))


def redact_argv(argv: Sequence[str]) -> list[str]:
    """A command line without secrets: a secret flag loses every value up to the next flag."""
    out: list[str] = []
    hiding = False
    for item in argv:
        if item.startswith("-"):
            name, equals, _ = item.partition("=")
            hiding = bool(_SECRET_FLAG.match(name))
            out.append(f"{name}={REMOVED}" if hiding and equals else redact(item))
        else:
            out.append(REMOVED if hiding else redact(item))
    return out


def _cleaned(text: str, found: list[Finding] | None) -> str:
    """Every pass in its order: later ones see what earlier ones left."""
    for kind, pattern, put in _passes():
        if found is None:
            text = pattern.sub(put, text)
            continue
        before = text

        def note(
            m: re.Match[str], kind: str = kind, put: Callable[[re.Match[str]], str] = put, before: str = before
        ) -> str:
            new = put(m)
            if new != m[0]:
                found.append(Finding(kind, before.count("\n", 0, m.start()) + 1))
            return new

        text = pattern.sub(note, text)
    return text


Pass = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]


def _passes() -> list[Pass]:
    host = _host()
    own: list[Pass] = [("host name", host, lambda _: "host")] if host else []
    return [*_FIRST, *own, *_LAST]


def _gone(m: re.Match[str]) -> str:
    return REMOVED + "\n" * m[0].count("\n")


def _after_lead(m: re.Match[str]) -> str:
    return f"{m[1]}{REMOVED}"


def _keep_quotes(m: re.Match[str]) -> str:
    value = m["value"]
    if value.strip("[]()\"' ") in ("", "None", "null") or value.strip("\"'") == REMOVED:
        return m[0]
    opening, closing = (value[0], value[-1]) if value[0] in "\"'([" else ("", "")
    return f"{m['name']}{m['sep']}{opening}{REMOVED}{closing}" + "\n" * value.count("\n")


def _address(m: re.Match[str]) -> str:
    """Loopback, unspecified, and what is no address (a time of day) stay."""
    groups = m[0].partition("%")[0]
    # A colon before an address ("at 12:2001:db8::1") joins what does not belong: try without the first groups, too.
    while True:
        try:
            address = ipaddress.ip_address(groups)
        except ValueError:
            _, colon, groups = groups.partition(":")
            if not colon:
                return m[0]
            continue
        return m[0] if address.is_loopback or address.is_unspecified else REMOVED


def _address_or_version(m: re.Match[str]) -> str:
    before = m.string[max(0, m.start() - _MOST_BEFORE) : m.start()]
    if _VERSION_BEFORE.search(before) or _VERSION_AFTER.match(m.string, m.end()):
        return m[0]
    return _address(m)


_FIRST: list[Pass] = [
    ("private key", _PEM, _gone),
    ("SSH key", _SSH, _gone),
    ("credentials in a URL", _URL_CREDENTIALS, lambda m: f"{m[1]}{REMOVED}@"),
    ("signature in a URL", _URL_SIGNATURE, _after_lead),
    ("Authorization header", _HEADER, _after_lead),
    ("bearer token", _BEARER, _after_lead),
    ("key or token", _SHAPES, _gone),
    ("key or token", _NAMED, _keep_quotes),
    ("key or token", _FLAG, _keep_quotes),
    ("key or token", _ENV, _keep_quotes),
    ("home folder", _HOMES, lambda _: "~"),
    ("home folder", _WINDOWS_HOMES, lambda _: "~"),
    ("home folder", _INDUCTOR, lambda _: "user"),
]
_LAST: list[Pass] = [
    ("cloud account or instance", _CLOUD, _gone),
    ("host name", _MACHINES, _gone),
    ("e-mail address", _EMAIL, _gone),
    ("MAC address", _MAC, _gone),
    ("IP address", _IPV4, _address_or_version),
    ("IP address", _IPV6, _address),
]


@cache
def _host() -> re.Pattern[str] | None:
    """The host's name, whole and up to its first dot. Names of up to three letters would hit ordinary words."""
    name = socket.gethostname()
    names = {n for n in (name, name.partition(".")[0]) if len(n) > 3 and n != "localhost"} - _ORDINARY
    if not names:
        return None
    longest_first = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{longest_first})(?![\w-])")
