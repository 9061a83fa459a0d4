"""What is watched while a cell runs: NVML, the host, the engine's /metrics, the environment."""
