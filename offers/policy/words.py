"""What the keys of a catalogue mean. The JSON Schema for editors is generated from these words."""

_RULES = {
    "eligibility": "rules that law and the bank's own limits ask for; an offer that breaks one is withheld",
    "suitability": "rules about what is right for the customer; an offer that breaks one is withheld",
}
_CONDITION = {
    "column": "the column that is asked, of role customer, offer or context",
    "at_least": "holds if the number is not below this one",
    "at_most": "holds if the number is not above this one",
    "equals": "holds if the value is this one",
    "in": "holds if the value is one of the list",
    "is_not": "holds if the value is none of the list",
    "missing": "holds if the value is missing (true), or is there (false); no other operator may stand beside it",
    "all": "holds if all of these conditions hold",
    "any": "holds if one of these conditions holds",
    "not": "holds if this condition does not",
}
CATALOGUE: dict[str, dict[str, str]] = {
    "Catalogue": {
        "name": "lower case with hyphens; answers carry it",
        "title": "for people",
        "contract": "the contract whose columns the catalogue is about",
        "families": "kinds of offers; each offer belongs to one",
        "offers": "what the bank can offer",
        "policy": "how offers are ranked",
        **_RULES,
    },
    "Family": {
        "name": "the name by which offers refer to it",
        "limit": "most offers of the family in one answer; no limit by default",
        **_RULES,
    },
    "Offer": {
        "id": "occurs once; answers and outcomes carry it",
        "title": "for people",
        "family": "the name of its family",
        "attributes": (
            "a value for each of the contract's columns of role offer; only one that may be missing can be left out"
        ),
        "value": "margin of an acceptance, in EUR",
        "cost": "cost of a contact, in EUR",
        "weight": "context weight: how well the offer fits the moment",
        "weights": "context weights that hold under a condition; the first whose condition holds replaces weight",
        "lever": "the business's own factor",
        **_RULES,
    },
    "Weight": {
        "when": "the condition; one that can't be evaluated does not hold",
        "weight": "the context weight while it holds",
        "justification": "why the condition may ask a protected column; the release's card prints it",
    },
    "Rule": {
        **_CONDITION,
        "reason": "the code that the answer gives where the rule does not hold, such as AGE_BELOW_18",
        "justification": "why the rule may ask a protected column; the release's card prints it",
    },
    "Condition": _CONDITION,
    "PolicySettings": {
        "k": "places in an answer; a request may ask for another number",
        "exploration": "who gets the first place; the highest score by default",
        "fallback": "value ranks by value while the predictor is away; without it such a request is refused",
    },
    "Exploration": {
        "kind": (
            "none: the highest score; softmax: drawn, the likelier the higher the score;"
            " epsilon: drawn at random with probability epsilon"
        ),
        "temperature": "of softmax, in EUR: the higher, the more alike the probabilities",
        "epsilon": "probability that the first place is drawn, all candidates equally likely",
        "salt": "word that the draws hang on beside the decision's id; another word gives other draws",
    },
}
