"""The page in a real browser, with a daemon at work behind it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from syncd.sandbox import Faults
from syncd.web.serving import serve
from syncd.web.site import site
from tests.web.conftest import HOSTILE, Scene, staged

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # for whoever runs this as root; it opens nothing but our own page
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1100,900",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium, without a window and without a network."""
    if os.environ.get("SYNCD_NO_BROWSER"):
        pytest.skip("SYNCD_NO_BROWSER is set")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail(
            "these tests want a browser and its driver: `apt-get install chromium chromium-driver` on Debian, or "
            "SYNCD_NO_BROWSER=1 to leave them out"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[tuple[Scene, str]]:
    """The scene with its daemon running, and the address of its page."""
    async with staged(folder) as scene:
        page = site(scene.house, host="127.0.0.1", token=None, refused=lambda: scene.refused)
        async with serve(page, "127.0.0.1", 0) as address:
            working = asyncio.create_task(scene.house.run_for_ever())
            try:
                yield scene, address
            finally:
                scene.house.stop.set()
                await working


def until(true: Callable[[], Any]) -> Any:
    """What it gives once it gives something: 20 s at the most."""
    deadline = time.monotonic() + 20
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return found


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the browser says of the page: a script that fails, or anything that its policy forbids."""
    return [entry["message"] for entry in browser.get_log("browser")]


def text_of(browser: webdriver.Chrome) -> str:
    return str(browser.find_element(By.TAG_NAME, "body").text)


def looked_at(browser: webdriver.Chrome) -> bool:
    """Somebody comes back to the page, which does not wait for its five seconds then."""
    browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
    return True


async def test_a_failed_signal_is_retried_by_a_click_and_ends_processed(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    """Somebody who never saw a terminal sees what failed, presses Retry, and watches it become processed."""
    async with at_work(tmp_path) as (scene, address):

        def press_retry() -> None:
            browser.get(address)
            until(lambda: browser.find_elements(By.CSS_SELECTOR, "a.tile.failed") or browser.refresh())
            browser.find_element(By.CSS_SELECTOR, "a.tile.failed").click()
            browser.find_element(By.LINK_TEXT, "csv:survey:broken").click()
            assert "the processor gave up" in text_of(browser)
            scene.sandbox.faults = Faults(failing_marker=None)
            browser.find_element(By.XPATH, "//button[text()='Retry']").click()
            until(lambda: "Zentrik is done with it" in text_of(browser))  # by the page's own refreshing
            history = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "td:nth-child(2)")]
            assert history == ["queued", "accepted", "failed", "retried", "processed"]
            assert not browser.find_elements(By.XPATH, "//button[text()='Retry']")
            assert complaints(browser) == []

        await asyncio.to_thread(press_retry)
    assert scene.sandbox.books.statuses() == {"processed": 3}


async def test_what_changes_is_seen_without_a_reload(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """A page left open on a wall is never old; and one whose syncd is gone says so."""
    async with at_work(tmp_path) as (scene, address):

        def watch() -> None:
            browser.get(address)
            until(lambda: "2 processed" in text_of(browser) or browser.refresh())
            browser.execute_script("window.stays = true")
            scene.refused = f"config.yaml:1: {HOSTILE}"
            until(lambda: looked_at(browser) and HOSTILE in text_of(browser))
            assert browser.execute_script("return window.stays")
            assert complaints(browser) == []

        await asyncio.to_thread(watch)
    await asyncio.to_thread(until, lambda: looked_at(browser) and "syncd does not answer" in text_of(browser))
    browser.get_log("browser")  # the failed fetches


async def test_it_fits_a_phone_light_and_dark_and_reads_without_scripts(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    """Nothing is cut off at 375 pixels, each scheme has its own colours, and reading needs no JavaScript."""
    async with at_work(tmp_path) as (_, address):

        def look() -> None:
            sizes = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
            grounds = set()
            try:
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
                for path in ("/", "/signals", "/connectors/survey", "/connectors/lost"):
                    browser.get(address + path)
                    widths = "return [document.documentElement.scrollWidth, innerWidth]"
                    assert browser.execute_script(widths) == [375, 375], path
                for scheme in ("light", "dark"):
                    feature = {"name": "prefers-color-scheme", "value": scheme}
                    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
                    grounds.add(browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
                browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
                browser.get(address)
                assert "survey" in text_of(browser)
                browser.find_element(By.CSS_SELECTOR, "form[action='/do/pause'] button").click()
                assert until(lambda: browser.find_elements(By.CSS_SELECTOR, ".pill.paused"))
            finally:
                browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
                browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            assert len(grounds) == 2
            assert complaints(browser) == []

        await asyncio.to_thread(look)
