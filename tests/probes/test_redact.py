import ipaddress
import json
import socket
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.probes.redact import REMOVED, _host, redact, redact_argv

WORD = string.ascii_letters + string.digits
# Places where logs and command lines hold values.
FRAMES = (
    "{}",
    "x {} y",
    "INFO 11-20 22:47:46 [api.py:5] args: {{'a': '{}', 'b': 1}}",
    '{{"value": "{}"}}',
    "--model={} --port 8000",
    "key={},next",
    "({})\nmore",
    "http://h/{}",
)
frames = st.sampled_from(FRAMES)
secrets = st.one_of(
    st.text(WORD, min_size=20, max_size=40).map(lambda s: f"hf_{s}"),
    st.text(WORD + "-_", min_size=16, max_size=60).map(lambda s: f"sk-{s}"),
    st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16).map(lambda s: f"AKIA{s}"),
    st.text(WORD, min_size=36, max_size=36).map(lambda s: f"ghp_{s}"),
)
values = st.text(WORD + "-_.", min_size=8, max_size=40).filter(lambda s: not s.startswith("-"))
NAMED = (
    "--api-key {}",
    "--api-key={}",
    '["vllm", "--api-key", "{}", "--port", "1"]',
    "'api_key': ['{}', 'other'], 'x': 1",
    "api_key='{}'",
    "HF_TOKEN={}",
    "hf_token: {}",
    '{{"password": "{}"}}',
    "AWS_SECRET_ACCESS_KEY={}",
    "aws_secret_access_key = {}",
    "Authorization: Bearer {}",
    "Authorization: Basic {}",
    "'Authorization': 'Bearer {}'",
    "https://user:{}@example.org/x",
    "redis://:{}@example.org",
)


@given(secrets, frames)
def test_keys_known_by_their_shape_never_survive(secret: str, frame: str) -> None:
    assert secret not in redact(frame.format(secret))


@given(values, st.sampled_from(NAMED))
def test_keys_known_by_their_name_never_survive(value: str, frame: str) -> None:
    secret = f"Zq{value}"  # so that it is not found in a word of the frame itself
    assert secret not in redact(frame.format(secret))


@given(st.lists(values, min_size=1, max_size=3), st.sampled_from(["--api-key", "--hf-token", "--ssl-keyfile-password"]))
def test_every_value_of_a_secret_flag_goes(found: list[str], flag: str) -> None:
    argv = redact_argv(["vllm", "serve", flag, *[f"Zq{v}" for v in found], "--port", "8000", f"{flag}=Zq{found[0]}"])
    assert "Zq" not in json.dumps(argv)
    assert argv[-3:-1] == ["--port", "8000"]


@given(st.ip_addresses(v=4), frames)
def test_ipv4_addresses_never_survive(address: ipaddress.IPv4Address, frame: str) -> None:
    found = redact(frame.format(address))
    stays = address.is_loopback or address.is_unspecified
    assert (found == frame.format(address)) if stays else (str(address) not in found)


@given(st.ip_addresses(v=6), st.booleans(), frames)
def test_ipv6_addresses_never_survive(address: ipaddress.IPv6Address, exploded: bool, frame: str) -> None:
    text = address.exploded if exploded else str(address)
    if not (address.is_loopback or address.is_unspecified):
        assert text not in redact(frame.format(text))


@given(st.text(WORD + "._-", min_size=1, max_size=20).filter(lambda s: s.strip(".")), frames)
def test_home_folders_never_survive(user: str, frame: str) -> None:
    found = redact(frame.format(f"/home/{user}/models"))
    assert "/home/" not in found
    assert "~/models" in found


@given(st.text())
def test_redacting_again_changes_nothing_and_keeps_lines(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    assert once.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        "eos_token='w128009', bos_token_id=1, max_tokens: 5, tokenizer='/models/bf16'",
        "vllm:prompt_tokens_total 99",
        "INFO 11-20 22:47:46 [gpu_worker.py:857] Free memory on device (139.29/139.8 GiB)",
        "torch.ops.c10::cuda std::vector<at::Tensor>",
        "http://127.0.0.1:8000 and http://0.0.0.0:8000 and [::1]:80",
        "hf_overrides={}, api_key=None, api_key=[]",
        "vllm 0.26.0, CUDA 12.8, driver 570.86.15",
        "/models/bf16 /tmp/root/x the-root /rootless",
        "basic configuration of the disk-usage",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/root/.cache/huggingface", "~/.cache/huggingface"),
        ("cd /root", "cd ~"),
        ("file:///root/x", "file://~/x"),
        ("/home/bob", "~"),
        ("/tmp/torchinductor_bob/ab", "/tmp/torchinductor_user/ab"),
        ("tcp://10.1.2.3:80", f"tcp://{REMOVED}:80"),
        ("at 12:2001:db8::1", f"at {REMOVED}"),
        ("2001:db8::1: refused", f"{REMOVED}: refused"),
        ("[fe80::1%eth0]:80", f"[{REMOVED}]:80"),
        ("00:1a:2b:3c:4d:5e", REMOVED),
        ("https://u:p@h.org/x", f"https://{REMOVED}@h.org/x"),
    ],
)
def test_examples(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    "bad", ["-a" * 10_000, "a_" * 10_000, "hf_" * 8_000, "A1_" * 7_000, "1:" * 20_000, "1." * 20_000]
)
def test_a_long_line_takes_no_long_time(bad: str) -> None:
    began = time.monotonic()
    redact(bad)
    assert time.monotonic() - began < 2


def test_the_hosts_name_goes_and_words_holding_it_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpubox7.example.org")
    _host.cache_clear()
    try:
        assert redact("on gpubox7.example.org, gpubox7: mygpubox7 gpubox70") == "on host, host: mygpubox7 gpubox70"
    finally:
        _host.cache_clear()
