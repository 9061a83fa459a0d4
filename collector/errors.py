"""The errors that a person sees: one line that says what is wrong, where, and what to do."""

__all__ = ["QuantcaseError", "UsageFault"]


class QuantcaseError(Exception):
    """A run or a check failed for a reason we can name. The command line prints it in one line and exits with 1."""

    exit_code = 1

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}; {self.fix}" if self.fix else self.problem


class UsageFault(QuantcaseError):
    """What was asked for cannot be understood: a missing study, a bad TOML, an unknown GPU. Exit code 2."""

    exit_code = 2
