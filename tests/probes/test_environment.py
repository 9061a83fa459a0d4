import getpass
import os
import re
import socket
import sys
from pathlib import Path

import msgspec
import pytest

import collector
from collector.probes.environment import capture, host_facts, software_facts
from collector.probes.nvml import Gpus
from collector.probes.packages import engine_packages, interpreter
from tests.probes.fake_nvml import FakeNvml


def test_a_session_holds_card_host_and_software() -> None:
    session = capture(Gpus.open(FakeNvml()), {"vllm": "0.26.0"}, session=2, wall_unix_s=1_700_000_000, monotonic_s=5.0)
    assert (session.session, session.started, session.monotonic_s) == (2, "2023-11-14T22:13:20+00:00", 5.0)
    assert session.gpus[0]["name"] == "NVIDIA RTX 2000 Ada Generation"
    assert session.software["vllm"] == "0.26.0"
    assert session.software["collector"] == collector.__version__
    assert session.software["aiohttp"]
    assert session.host["cores"] == os.cpu_count()


def test_without_a_gpu_there_is_still_a_session() -> None:
    assert capture(Gpus.open(FakeNvml(driver=False))).gpus == []


def test_the_clock_pair_is_taken_now() -> None:
    session = capture(Gpus.open(FakeNvml(driver=False)))
    assert session.wall_unix_s > 1.7e9
    assert session.monotonic_s > 0


def test_nothing_names_the_host_the_user_or_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_Verysecret1234")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    text = msgspec.json.encode(capture(Gpus.open(FakeNvml()))).decode()
    names = {socket.gethostname(), str(Path(collector.__file__).parent.parent)}
    if len(getpass.getuser()) > 4:
        names.add(getpass.getuser())
    for name in names:
        assert name not in text
    assert "hf_Verysecret1234" not in text
    assert not re.search(r"/home/|/root", text)


def test_host_facts_are_plausible_here() -> None:
    host = host_facts()
    assert host["ram_gib"] is None or host["ram_gib"] > 0.1
    assert 1 <= host["cores_usable"] <= host["cores"]
    assert isinstance(host["container"], bool)


def test_a_checkout_states_its_revision() -> None:
    facts = software_facts()
    if (Path(collector.__file__).resolve().parent.parent / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}", facts["collector_revision"])


def installed(folder: Path, name: str, version: str, plugin: str = "") -> None:
    """A package as pip leaves it behind: its metadata, and an entry point where it is a plugin of vLLM."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if plugin:
        (info / "entry_points.txt").write_text(f"[vllm.general_plugins]\n{plugin} = somewhere:register\n")


@pytest.fixture
def engine(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A `vllm` of another environment than ours: its script, and what is set for it."""
    packages = tmp_path / "packages"
    installed(packages, "vllm", "0.33.0")
    installed(packages, "bitsandbytes", "0.49.1")
    installed(packages, "vllm-bnb-plugin", "0.0.2", "bnb")
    installed(packages, "vllm-gguf-plugin", "0.0.1", "gguf")
    script = tmp_path / "bin" / "vllm"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport vllm\n")
    script.chmod(0o755)
    return script, {"PYTHONPATH": str(packages)}


def test_the_engines_own_interpreter_tells_its_packages_and_plugins(engine: tuple[Path, dict[str, str]]) -> None:
    script, env = engine
    software = capture(Gpus.open(FakeNvml(driver=False)), command=[str(script), "serve"], env=env).software
    assert software["engine vllm"] == "0.33.0"
    assert software["engine bitsandbytes"] == "0.49.1"
    assert software["engine vllm plugin bnb"] == "vllm-bnb-plugin 0.0.2"
    assert software["engine vllm plugin gguf"] == "vllm-gguf-plugin 0.0.1"
    assert software["engine python"] == software["python"]
    assert "vllm" not in software  # it is not in the collector's own
    assert str(script.parent) not in msgspec.json.encode(software).decode()


def test_plugins_in_the_collectors_own_python_are_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "vllm-gguf-plugin", "0.0.1", "gguf")
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = software_facts(command=[sys.executable, "-m", "vllm"])
    assert facts["vllm-gguf-plugin"] == "0.0.1"
    assert facts["vllm plugin gguf"] == "vllm-gguf-plugin 0.0.1"
    assert not [key for key in facts if key.startswith("engine ")]  # the same Python is not asked twice


@pytest.mark.parametrize(
    "head",
    [
        "#!{python}",
        "#!/usr/bin/env {name}",
        "#!/usr/bin/env -S {name} -u",
        '#!/bin/sh\n\'\'\'exec\' "{python}" "$0" "$@"',
    ],
)
def test_a_script_names_its_python(tmp_path: Path, head: str) -> None:
    python = Path(sys.executable)
    script = tmp_path / "vllm"
    script.write_text(head.format(python=python, name=python.name) + "\nimport vllm\n")
    script.chmod(0o755)
    found = interpreter([str(script)], {"PATH": f"{python.parent}:{os.environ['PATH']}"})
    assert found is not None
    assert found.samefile(python)


@pytest.mark.parametrize("content", ["#!/bin/sh\nexec docker run vllm\n", "\x7fELF", "", "#!'\n", "#!/usr/bin/env\n"])
def test_a_program_that_is_no_python_is_said_and_not_run(tmp_path: Path, content: str) -> None:
    program = tmp_path / "engine"
    program.write_text(content)
    program.chmod(0o755)
    assert engine_packages([str(program)], {}) == {
        "engine packages": "not read: engine names no Python that could be asked"
    }
    assert engine_packages([], {}) == {}
    assert "not read" in engine_packages([str(tmp_path / "missing")], {})["engine packages"]


def test_a_python_that_does_not_answer_is_said_without_its_paths(tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert engine_packages([str(broken)], {}) == {
        "engine packages": "not read: the Python of python3 did not tell them (CalledProcessError)"
    }
    broken.write_text("#!/bin/sh\necho '{\"python\": [1]}'\n")
    assert "ValidationError" in engine_packages([str(broken)], {})["engine packages"]
