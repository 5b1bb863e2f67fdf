"""Describes a market's bundle for people."""

from offers.retrieval.bundle import MarketBundle


def facts(bundle: MarketBundle) -> dict[str, str]:
    """Describe a bundle for people: facts by name, as text."""
    data, evaluation = bundle.manifest.data, bundle.evaluation
    return {
        "name": bundle.name,
        "market": bundle.market.title,
        "gate": "passed" if bundle.verdict.passed else "FAILED",
        "candidates": "by towers" if bundle.towers else "all products",
        **{f"{one.name}, {name}": str(figure) for one in evaluation.methods for name, figure in one.figures.items()},
        "ranker, log-loss": f"{evaluation.ranker.log_loss:.4f}, of the mean rate {evaluation.ranker.base_log_loss:.4f}",
        "ranker, ECE": f"{evaluation.ranker.ece:.4f}",
        "data": f"{data.origin}, {data.views} of {data.products} products, {data.accepted} accepted",
        "data fingerprint": data.fingerprint,
        "seed": str(bundle.manifest.seed),
        "libraries": ", ".join(f"{name} {version}" for name, version in bundle.manifest.libraries.items()),
        "git commit": bundle.manifest.git_commit,
    }
