"""Takes secrets and names out of logs and command lines before they are written anywhere.

What goes: tokens and keys by their shape or by the name before them, credentials in URLs, home folders, the host's
name, and addresses other than loopback and `0.0.0.0`. When in doubt it removes: a version of four numbers reads like
an address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from functools import cache

__all__ = ["REMOVED", "redact", "redact_argv"]

REMOVED = "[removed]"

# Keys that show by their shape.
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_(?=[A-Za-z]*[A-Z0-9])[A-Za-z0-9]{6,}|hf_[A-Za-z0-9]{16,}"  # Hugging Face; `hf_overrides` is a vLLM option
    r"|sk-[A-Za-z0-9_-]{6,}"  # OpenAI and others
    r"|nvapi-[A-Za-z0-9_-]{6,}"
    r"|gh[pousr]_[A-Za-z0-9]{10,}|github_pat_[A-Za-z0-9_]{10,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{12,}"  # AWS access key ids
    r"|AIza[0-9A-Za-z_-]{30,}"  # Google
    r"|xox[abprs]-[A-Za-z0-9-]{8,}"  # Slack
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"  # JWT
    r")"
)
_SCHEME = re.compile(r"(?i)\b(bearer\s+|authorization[\"']?\s*[:=]\s*[\"']?basic\s+)[^\s\"',;\]})]+")

# Keys that show by the name before them. `eos_token` and `max_tokens` are not of them. The words before are bounded: a
# log line of 20,000 characters without a blank must not take seconds.
_NAME = (
    r"(?:[A-Za-z0-9]{1,24}[-_]){0,8}(?:api[-_]?keys?|(?:hf|hub|auth|access|api|session|bearer|refresh)[-_]?token|password|passwd"
    r"|secret(?:[-_]?access)?(?:[-_]?key)?|private[-_]?key|aws[-_]?access[-_]?key[-_]?id|authorization)"
)
_VALUE = r"[^\s\"',;\]})]+"
_NAMED = re.compile(
    rf"(?i)(?<![A-Za-z0-9])(?P<name>-{{0,2}}{_NAME})(?P<sep>[\"']?\s*(?:[:=]|,(?=\s*[\"']))\s*)"
    rf"(?P<value>\[[^\]]*\]|\([^)]*\)|\"[^\"]*\"|'[^']*'|{_VALUE})"
)
_FLAG = re.compile(rf"(?i)(?<!\S)(?P<name>--{_NAME})(?P<sep>\s+)(?P<value>\"[^\"]*\"|'[^']*'|(?!-)\S+)")
_SECRET_FLAG = re.compile(rf"(?i)--?{_NAME}$")

_URL_CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^/\s@\"'<>]*@")
_HOMES = re.compile(r"(?:/home|/Users)/[^/\s\"':,;)\]}]+|(?<![\w.~-])/root(?![\w.-])")
_INDUCTOR = re.compile(r"(?<=torchinductor_)[\w.-]+")  # torch names its cache after the user
_MAC = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_])(?:[0-9A-Fa-f]{1,4}(?:::?[0-9A-Fa-f]{1,4}){1,15}(?:::)?|[0-9A-Fa-f]{1,4}::"
    r"|(?<!:)::[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,7})(?:%[\w.-]+)?(?![0-9A-Za-z_])"
)


def redact(text: str) -> str:
    """The text without secrets, home paths, host name and addresses. Line breaks stay where they are."""
    text = _URL_CREDENTIALS.sub(rf"\1{REMOVED}@", text)
    text = _SCHEME.sub(rf"\1{REMOVED}", text)
    text = _SHAPES.sub(REMOVED, text)
    text = _NAMED.sub(_keep_quotes, text)
    text = _FLAG.sub(_keep_quotes, text)
    text = _HOMES.sub("~", text)
    text = _INDUCTOR.sub("user", text)
    if host := _host():
        text = host.sub("host", text)
    text = _MAC.sub(REMOVED, text)
    text = _IPV4.sub(_address, text)
    return _IPV6.sub(_address, text)


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


def _keep_quotes(m: re.Match[str]) -> str:
    value = m["value"]
    if value.strip("[]()\"' ") in ("", "None", "null") or value == REMOVED:
        return m[0]
    opening, closing = (value[0], value[-1]) if value[0] in "\"'([" else ("", "")
    return f"{m['name']}{m['sep']}{opening}{REMOVED}{closing}"


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


@cache
def _host() -> re.Pattern[str] | None:
    """The host's name, whole and up to its first dot. Names of up to three letters would hit ordinary words."""
    name = socket.gethostname()
    names = {n for n in (name, name.partition(".")[0]) if len(n) > 3 and n != "localhost"}
    if not names:
        return None
    longest_first = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{longest_first})(?![\w-])")
