"""The task files for rented boxes, read by SkyPilot's own parser, and their scripts by the shell's."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.cli import cli
from collector.fleet import study as fleets

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "fleet"
FILES = sorted(FOLDER.glob("*.yaml"))
SKY = ROOT / ".cache" / "skypilot" / "bin" / "python"
READ = """
import json, sys
import sky, yaml
from sky.clouds import CloudImplementationFeatures as Can
sky.Task.from_yaml(sys.argv[1])
config = yaml.safe_load(open(sys.argv[1]))
given = [(name, "given on the command line") for name in config["secrets"]]
task = sky.Task.from_yaml_config(config, secrets_overrides=given)
(resources,) = task.resources
asked = {Can.AUTODOWN}
if task.num_nodes > 1:
    asked.add(Can.MULTI_NODE)
resources.cloud.check_features_are_supported(resources, asked)
stop = resources.autostop_config
print(json.dumps({
    "cloud": repr(resources.cloud), "nodes": task.num_nodes, "accelerators": resources.accelerators,
    "idle": stop.idle_minutes, "down": stop.down, "secrets": sorted(task.secrets), "envs": task.envs,
}))
"""


@pytest.mark.engines
@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_skypilot_reads_it_and_its_cloud_can_do_it(file: Path) -> None:
    ran = subprocess.run([SKY, "-c", READ, file.name], capture_output=True, text=True, cwd=FOLDER, check=False)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert told["cloud"].lower() == file.stem
    assert told["down"] is True, "the meter stops"
    assert 0 < told["idle"] <= 30
    assert "HF_TOKEN" in told["secrets"]
    _, asked = fleets.load(FOLDER / told["envs"]["FLEET"])
    assert sum(a.run.boxes for a in asked) <= told["nodes"]
    for card in told["accelerators"]:
        assert card.split("-")[0].lower() == asked[0].profile.name


def test_there_is_a_file_for_each_cloud() -> None:
    assert [f.stem for f in FILES] == ["lambda", "runpod"]


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_its_scripts_are_shell_and_call_what_there_is(file: Path) -> None:
    data = yaml.safe_load(file.read_text())
    for part in ("setup", "run"):
        checked = subprocess.run(["bash", "-n", "-c", data[part]], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    fleet = cli.get_command(None, "fleet")  # type: ignore[arg-type]
    assert fleet is not None
    known = {o for p in fleet.commands["run"].params for o in p.opts}  # type: ignore[attr-defined]
    lines = re.findall(r"collect fleet .*", data["run"])
    assert len(lines) == 2
    for line in lines:
        assert set(re.findall(r"--[a-z-]+", line)) <= known


def test_the_fleets_that_they_name_are_sound() -> None:
    for file in sorted(FOLDER.glob("*.toml")):
        fleet, asked = fleets.load(file)
        assert fleet.id == file.stem
        assert asked
