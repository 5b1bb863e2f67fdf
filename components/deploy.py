"""The component that points a service on a cluster to a bundle that has passed the gate."""

from components.training import step


@step
def deploy(bundle: str, publish: str, service: str, smoke_url: str, seconds: int) -> None:
    """Roll a bundle out, ask it a question, and return to the bundle before it where the answer is wrong."""
    from deployment import deploy as inference
    from offers.settings import Settings
    from offers.steps.execution import execute, say

    execute(inference.deploy, f"{publish.rstrip('/')}/{bundle}", service, smoke_url, seconds, Settings.from_env(), say)
