"""Every table and list of the five documents that people filled in by hand has its counterpart on the built site."""

from __future__ import annotations

import pytest

from tests import sites
from tests.makers import make_bundle
from tests.real import RESULTS

# (seed, its section or table, page below the case or at the root, heading or table that holds it now)
COUNTERPARTS = [
    ("000 notes", "Models Used", "notes", "### Models used"),
    ("000 notes", "VRAM Comparison", "notes", "### VRAM comparison"),
    ("000 notes", "Startup Observations", "notes", "### Start-up observations"),
    ("000 notes", "Feynman: Quant Setup", "notes", "### What was learned about the set-up"),
    ("000 notes", "Chat Capacity: Results Summary", "notes", "### Chat&#58; results|### Chat: results"),
    ("000 notes", "Chat Capacity: Key Observations", "notes", "key observations"),
    ("000 notes", "Feynman: Chat Patterns", "notes", "### Chat patterns"),
    ("000 notes", "Quality Sanity Check: Prompts Tested", "notes", "### Prompts tested"),
    ("000 notes", "Quality Assessment", "notes", "### Quality assessment"),
    ("000 notes", "Feynman: Quality Risk", "notes", "### Quality risk"),
    ("000 notes", "Batch Capacity", "notes", "## Batch capacity"),
    ("000 notes", "Feynman: Batch vs Chat", "notes", "### Batch against chat"),
    ("000 notes", "My Predictions vs Reality", "notes", "## Predictions against reality"),
    ("000 notes", "What I Got Wrong and Why", "notes", "### What I got wrong and why"),
    ("000 notes", "References", "notes", "## References"),
    ("001 case study", "1. Setup: Hardware", "index", "### Hardware"),
    ("001 case study", "1. Setup: Models", "index", "table-variants"),
    ("001 case study", "1. Setup: vLLM Configuration", "index", "table-configuration"),
    ("001 case study", "2. VRAM Comparison", "index", "table-vram"),
    ("001 case study", "3. Chat Workload Results", "index", "## Chat"),
    ("001 case study", "4. Batch Workload Results", "index", "## Batch"),
    ("001 case study", "5. Quality Sanity Check", "index", "## Quality"),
    ("001 case study", "6. Cost Analysis", "index", "## Cost"),
    ("001 case study", "7. Recommendations", "index", "table-recommendations"),
    ("001 case study", "7. Configuration Recommendations", "index", "table-operating-points"),
    ("001 case study", "8. Methodology & Reproducibility", "index", "## Methodology"),
    ("001 case study", "8. Raw Data", "data", "table-files"),
    ("001 case study", "9. Next Steps", "index", "## Next steps"),
    ("001 case study", "What I Learned", "index", "## What I learned"),
    ("001 case study", "Hard Mode: A100 estimation", "projection", "A100 80 GB"),
    ("001 case study", "Next Steps: A100/H100", "projection", "table-estimate-cards"),
    ("001 case study", "Hard Mode: failure injection", "index", "### Under stress"),
    ("001 case study", "Hard Mode: automatic quality check", "quality", "## Answers side by side"),
    ("002 summary", "Quantizations by model", "/summary", "VRAM baseline &#40;GB&#41;|VRAM baseline (GB)"),
    ("002 summary", "Key Findings", "/summary", "## Key findings"),
    ("002 summary", "Use Case Recommendations", "/summary", "## Which quantization for what"),
    ("002 summary", "Testing Notes", "/summary", "## Testing notes"),
    ("002 summary", "Next Steps: individual model cards", "cards/fp8", "## How it was measured"),
    ("003 plan", "Configurations", "plan", "## Configurations"),
    ("003 plan", "Fixed variables", "plan", "## Fixed variables"),
    ("003 plan", "Metrics", "plan", "## Metrics"),
    ("003 plan", "Reading prompts", "plan", "## Reading prompts"),
    ("003 plan", "Risk checklist", "plan", "## Risk checklist"),
    ("003 plan", "Rollback condition", "plan", "## Rollback condition"),
    ("004 log", "Experiment Overview, Hardware Configuration", "log", "## Overview"),
    ("004 log", "Experiment Matrix", "log", "## Experiment matrix"),
    ("004 log", "Experiment 1..4: Results, Observations", "log", "## Experiment 2:"),
    ("004 log", "Load Testing Results", "log", "## Load testing"),
    ("004 log", "Best Configuration for Latency", "log", "### Best for latency"),
    ("004 log", "Best Configuration for Throughput", "log", "### Best for throughput"),
    ("004 log", "Best Balanced Configuration", "log", "### Best balance"),
    ("004 log", "Cost Analysis", "log", "### Cost analysis"),
    ("004 log", "Production Deployment: Deployment Settings", "log", "### Deployment settings"),
    ("004 log", "Cost Optimization", "log", "### Cost optimization"),
    ("004 log", "Scaling Recommendations", "log", "### Scaling"),
    ("004 log", "Lessons Learned: What Worked Well", "log", "### What worked"),
    ("004 log", "Lessons Learned: Challenges Faced", "log", "### Challenges"),
    ("004 log", "Next Experiments", "log", "## Next experiments"),
    ("004 log", "Appendix", "log", "## Appendix"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pages by the name of their folder, `/` before those that stand at the root."""
    results = tmp_path_factory.mktemp("results")
    folder = make_bundle(results, weights="real")
    published = RESULTS / "2025-10-09-gh200-shimmy-moe"
    (results / published.name).symlink_to(published)
    _, outputs = sites.made(results)
    found = {}
    for o in outputs:
        if o.uri.startswith(f"cases/{folder.name}/") and o.uri.endswith(".md"):
            name = o.uri.removeprefix(f"cases/{folder.name}/").removesuffix(".md").removesuffix("/index")
            found[name] = str(o.data())
        elif o.uri.endswith("/index.md") and o.uri.count("/") == 1:
            found["/" + o.uri.removesuffix("/index.md")] = str(o.data())
    return found


@pytest.mark.parametrize(("seed", "section", "page", "holds"), COUNTERPARTS, ids=lambda x: str(x)[:50])
def test_each_part_of_a_seed_has_its_counterpart(
    pages: dict[str, str], seed: str, section: str, page: str, holds: str
) -> None:
    assert any(part in pages[page] for part in holds.split("|")), f"{seed}: {section} is not on {page}"
