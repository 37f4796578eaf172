"""Results and progress in a notebook."""

from __future__ import annotations

from pathlib import Path

from simba_actors import Optimizer
from simba_actors.observe.notebook import ProgramDiff
from tests.support.hostile import hostile_script
from tests.support.runs import small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE


def test_a_diff_shows_additions_in_color_and_escapes_them() -> None:
    html = ProgramDiff(
        "--- self.instructions\n+++ self.instructions\n@@ -1 +1,2 @@\n Answer.\n+<b>\u202e"
    )._repr_html_()
    assert "<b>" not in html
    assert 'rgba(46, 160, 67, 0.2)">+&lt;b&gt;\\u202e</span>' in html


async def test_what_an_lm_wrote_is_text_in_the_html_of_a_result(tmp_path: Path) -> None:
    lm = ScriptedLM(hostile_script)
    async with Optimizer.start(small_config(tmp_path / "simba.db", lm=lm, prompt_model=lm)) as optimizer:
        result = await optimizer.result(PATIENCE)
        status = await optimizer.status()
    assert "<script" not in result._repr_html_().lower()
    assert f"{result.score:.3f}" in result._repr_html_()
    assert "finished" in status._repr_html_()
