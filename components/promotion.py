"""The component that lets a service on a cluster serve a release which the gate alone approves."""

from components.training import step


@step
def promote(release: str, service: str, smoke_url: str, seconds: int) -> None:
    """Promote a release: roll it out, ask it a question, and return to the one before where the answer is wrong."""
    from deployment import releases
    from deployment.account import step_settings
    from offers.steps.execution import execute, say

    target = releases.Target(service, smoke_url, seconds)
    execute(releases.promote, release, target, step_settings(), say)
