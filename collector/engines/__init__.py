"""Engines behind one small protocol (`base.py`): vllm, llamacpp, endpoint, replay. One file each."""
