"""What quantization costs in answers: suites of prompts, scorers, and the judge that asks a server all of them."""
