"""Write texts in lower case."""

from __future__ import annotations

from tasks.data.methods.method import MethodParameters, State, TextMethod


class LowerCaseParameters(MethodParameters):
    """Parameters of `LowerCase`."""


class LowerCase(TextMethod):
    """Lower case by Unicode's rules, the same for every language."""

    name = "lower-case"
    Parameters = LowerCaseParameters

    def apply(self, text: str, parameters: LowerCaseParameters, state: State) -> str:
        return text.lower()
