import subprocess
import sys

ABSENT = ("duckdb", "graphviz", "kserve", "plotly")
"""What the image of the steps leaves out; only a market's steps have duckdb."""
LOADED = ("steps.training", "steps.registration", "steps.scoring", "steps.monitoring", "registry.mirror")


def test_steps_and_mirror_need_nothing_that_their_image_leaves_out() -> None:
    script = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
    script += "".join(f"import offers.{name}\n" for name in LOADED)
    subprocess.run([sys.executable, "-c", script], check=True)
