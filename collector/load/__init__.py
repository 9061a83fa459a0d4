"""The load generator: one streaming request (`wire`, `stream`), the schedule (`closed_loop`), `prompts`."""
