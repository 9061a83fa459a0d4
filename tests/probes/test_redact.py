import gzip
import ipaddress
import json
import socket
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.engines.facts import read_log
from collector.probes.redact import (
    REMOVED,
    Finding,
    _host,
    find,
    is_secret_name,
    redact,
    redact_argv,
    redact_version,
)
from collector.study import ready_studies

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
        "a bearer token is missing; the Bearer scheme",
        "authorization: None, 'authorization': null",
        "threading.local and _thread.local() in torch.internal",
        "ghcr.io/org/image@sha256:0123456789abcdef, name:config:test@0a1b2c3",
        "nvidia-cudnn-cu12==9.10.2.21, cuBLAS 12.8.4.1, NCCL version 2.27.5.1, nvidia_nccl_cu12-2.27.3.1-py3-none.whl",
        "EOS_TOKEN=</s> MAX_TOKEN=5 LLAMA_EOS_TOKEN=2",
        "2026-11-21-14-15-16 and 10-11-12-13-14-15",
        "secret_sauce, sk-learn, token: 'the', token=12",
        "https://huggingface.co/meta-llama/Llama-3.1-8B?download=true&policyless=1",
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
        ("Authorization: Token Zq1, x", f"Authorization: {REMOVED}, x"),
        ('Proxy-Authorization: Digest user="a", nonce="b"', f"Proxy-Authorization: {REMOVED}"),
        ("failed with bearer Zq12345", f"failed with bearer {REMOVED}"),
        ("sk-ant-api03-abcdefghijkl", REMOVED),
        ("rpa_ABCDEFGHIJ0123456789KLMNOP", REMOVED),
        ("secret_my-key_0123456789abcdef0123456789abcdef.ABCDEFGHabcdefgh", REMOVED),
        ("JUPYTER_TOKEN=abc GITHUB_TOKEN='x y'", f"JUPYTER_TOKEN={REMOVED} GITHUB_TOKEN='{REMOVED}'"),
        ("RUNPOD_POD_ID=abc123", f"RUNPOD_POD_ID={REMOVED}"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b", f"a {REMOVED}\n\n b"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabcdefghijklmnopqrstuv\nand on", f"{REMOVED}\n\nand on"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA bob@gpu", f"{REMOVED} bob@gpu"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", REMOVED),
        ("https://cdn/x?X-Amz-Signature=0a1b&Expires=5", f"https://cdn/x?X-Amz-Signature={REMOVED}&Expires=5"),
        ("ask bob.smith+x@mail.example.org now", f"ask {REMOVED} now"),
        ("00-1A-2B-3C-4D-5E", REMOVED),
        ("on ip-10-0-12-3.ec2.internal:80", f"on {REMOVED}:80"),
        ("gpu-3.cluster.local and abc-8000.proxy.runpod.net", f"{REMOVED} and {REMOVED}"),
        ("i-0123456789abcdef0 arn:aws:iam::123456789012:role/x", f"{REMOVED} {REMOVED}"),
        ("http://metadata.google.internal/ http://169.254.169.254/", f"http://{REMOVED}/ http://{REMOVED}/"),
        ("/subscriptions/01234567-89ab-cdef-0123-456789abcdef/x", f"{REMOVED}/x"),
        ("C:\\Users\\bob\\x", "~\\x"),
    ],
)
def test_examples(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    "bad", ["-a" * 10_000, "a_" * 10_000, "hf_" * 8_000, "A1_" * 7_000, "1:" * 20_000, "1." * 20_000,
     "a@" * 10_000, "a.b-1." * 5_000, "-----BEGIN PRIVATE KEY-----" * 900, "a-1" * 9_000, "0a-" * 9_000,
     "X_TOKEN" * 4_000,
     "A_" * 10_000, "authorization" * 2_000, "bearer " * 4_000, "://" * 9_000, "?sig=" * 5_000, "secret_a" * 4_000]
)  # fmt: skip
def test_a_long_line_takes_no_long_time(bad: str) -> None:
    began = time.process_time()
    redact(bad)
    assert time.process_time() - began < 2


def test_the_hosts_name_goes_and_words_holding_it_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpubox7.example.org")
    _host.cache_clear()
    try:
        assert redact("on gpubox7.example.org, gpubox7: mygpubox7 gpubox70") == "on host, host: mygpubox7 gpubox70"
    finally:
        _host.cache_clear()


hub_ids = st.builds(
    "{}/{}".format,
    st.from_regex(r"[A-Za-z][A-Za-z0-9-]{1,12}", fullmatch=True),
    st.from_regex(
        r"(?:Llama|Qwen|Mistral|gemma)-[1-9](?:\.[0-9])?-[0-9]{1,3}[BM](?:-(?:Instruct|AWQ-INT4|FP8|w8a8))?",
        fullmatch=True,
    ),
)
kept = st.one_of(
    hub_ids,
    st.text("0123456789abcdef", min_size=40, max_size=40),  # a revision
    st.text("0123456789abcdef", min_size=64, max_size=64),  # a sha256
    st.lists(st.integers(0, 99), min_size=2, max_size=3).map(lambda p: ".".join(map(str, p))),
    st.lists(st.integers(0, 255), min_size=4, max_size=4).map(lambda p: f"pkg=={'.'.join(map(str, p))}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.sampled_from(
        "CutlassFP8ScaledMMLinearKernel MarlinLinearKernel void_cutlass::Kernel2<80> FLASH_ATTN Q4_K_M at::Tensor "
        "c10::cuda::CUDAStream vllm::marlin_gemm ggml_cuda_mul_mat_q 0000:19:00.0 12:34:56 gpu_worker.py:857".split()
    ),
)  # fmt: skip


@given(kept, frames.filter(lambda f: "http" not in f))
def test_ids_hashes_versions_kernels_and_numbers_stay(text: str, frame: str) -> None:
    assert redact(frame.format(text)) == frame.format(text)


@given(st.text(WORD + "-_.", min_size=1, max_size=30), st.sampled_from(["Bearer", "Basic", "Token", "bearer"]))
def test_whatever_an_authorization_header_holds_goes(value: str, scheme: str) -> None:
    assert f"Zq{value}" not in redact(f"{{'Authorization': '{scheme} Zq{value}', 'x': 1}}")


@given(st.lists(st.text(WORD + "+/=", min_size=16, max_size=64), min_size=1, max_size=6), st.booleans())
def test_a_private_key_goes_whole_or_cut_short(lines: list[str], whole: bool) -> None:
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, *(["-----END PRIVATE KEY-----"] if whole else [])])
    assert redact(f"x\n{key}\nand so on") == "x\n" + REMOVED + "\n" * key.count("\n") + "\nand so on"


def test_a_version_of_four_numbers_stays_where_it_is_known_to_be_one() -> None:
    assert redact_version("12.8.4.1") == "12.8.4.1"
    assert redact_version("0.26.0 at /home/bob/vllm") == "0.26.0 at ~/vllm"


def test_names_of_environment_variables_that_hold_secrets() -> None:
    secret = "HF_TOKEN OPENAI_API_KEY AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID DB_PASSWORD SENTRY_DSN KEY".split()
    plain = "VLLM_USE_V1 CUDA_VISIBLE_DEVICES TOKENIZERS_PARALLELISM OMP_NUM_THREADS VLLM_KEYS_PER_BLOCK".split()
    assert [n for n in secret if not is_secret_name(n)] == []
    assert [n for n in plain if is_secret_name(n)] == []


def test_what_was_found_is_told_by_kind_and_line_and_never_itself() -> None:
    said = "fine\nask bob@example.org\n\nwith hf_Zq1234567890abcdef at 10.1.2.3\n"
    assert find(said) == [
        Finding("e-mail address", 2), Finding("IP address", 4), Finding("key or token", 4),
    ]  # fmt: skip
    assert find("nothing here: v1.2.3, 127.0.0.1") == []


ROOT = Path(__file__).parents[2]
RAW = sorted(ROOT.glob("tests/samples/*/*.log"))
IN_BUNDLES = sorted(ROOT.glob("results/*-h200-*/logs/*-2.log.gz"))  # other starts of the same variants say the same


def log_text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")


def test_the_facts_of_real_logs_are_those_of_their_redacted_text() -> None:
    assert len(RAW) >= 8
    assert len(IN_BUNDLES) >= 5
    for path in [*RAW, *IN_BUNDLES]:
        text = log_text(path)
        clean = redact(text)
        if path in IN_BUNDLES:
            assert clean == text, path
        before, after = read_log(text), read_log(clean)
        for name in before.__struct_fields__:
            if name != "evidence":
                assert getattr(before, name) == getattr(after, name), (path.name, name)
        assert {k: (e.line, redact(e.text)) for k, e in before.evidence.items()} == {
            k: (e.line, e.text) for k, e in after.evidence.items()
        }


def test_nothing_of_a_ready_study_is_taken_for_a_secret() -> None:
    for path in ready_studies().values():
        assert redact(path.read_text()) == path.read_text(), path.name
