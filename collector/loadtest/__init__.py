"""The load test with Locust: `users` is the locustfile, `run` starts Locust as a process of its own."""
