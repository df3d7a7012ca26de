"""Makes the pictures of the live page that the documents show: ``python tests/live_pictures.py``.

A stage is played as in the tests of the page, and looked at in Chromium. The pictures are not compared with anything:
look at them, and commit them when the page has changed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_live_browser import Stage

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDE = {"width": 1400, "height": 1000}


def main() -> None:
    """Play, look, and write."""
    IMAGES.mkdir(exist_ok=True)
    stage = Stage("--runs", "14")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            take(browser, stage)
            browser.close()
    finally:
        stage.close()


def take(browser: Browser, stage: Stage) -> None:
    stage.start("brief a summary")
    stage.start("retry the weather", "writer")
    stage.start("team think")
    paused = stage.start("rounds", "writer")
    stage.post(f"/runs/{paused}/pause", None)
    stage.start("ask Which of the two reports do you mean?", "writer")
    stage.post(f"/runs/{stage.start('think', 'writer')}/stop", {})
    survey = stage.start("survey")
    page = look(browser, stage, f"#run={survey}", "light")
    expect(page.locator("#asks .card")).to_be_visible()
    expect(page.locator("#panel-facts")).to_contain_text("needs you")
    page.screenshot(path=IMAGES / "live-approval.png")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#answer")).to_contain_text("rain at all. The quick brown fox jumps over")
    page.wait_for_timeout(2_000)
    page.screenshot(path=IMAGES / "live-light.png")
    page = look(browser, stage, f"#run={survey}", "dark")
    page.screenshot(path=IMAGES / "live-dark.png")
    page = look(browser, stage, "", "dark", width=390)
    page.screenshot(path=IMAGES / "live-telephone.png")


def look(browser: Browser, stage: Stage, address: str, scheme: str, width: int = WIDE["width"]) -> Page:
    """A page, when it has all that it shows."""
    page = browser.new_context(viewport={**WIDE, "width": width}, color_scheme=scheme).new_page()
    page.goto(f"{stage.url}/live{address}")
    expect(page.locator("#link")).to_have_text("live")
    page.wait_for_timeout(2_500)
    return page


if __name__ == "__main__":
    main()
