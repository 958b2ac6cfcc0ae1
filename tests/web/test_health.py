"""What probes are told: alive is not the same as well."""

from __future__ import annotations

from datetime import timedelta

from tests.web.conftest import TOKEN, Scene


async def test_it_is_alive_whatever_else(scene: Scene) -> None:
    """A container that only waits for Zentrik is not restarted for it."""
    scene.house.is_refused = True
    async with scene.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_it_is_ready_while_its_loops_come_round(scene: Scene) -> None:
    """Green means that work is being done, not that a process exists."""
    async with scene.client() as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ready\n")


async def test_it_is_not_ready_before_its_loops_have_begun(scene: Scene) -> None:
    """Nobody is told that it works before it has begun to."""
    scene.house.beats.clear()
    async with scene.client() as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "have not begun" in answer.text


async def test_a_loop_that_is_held_up_turns_it_red(scene: Scene) -> None:
    """A daemon that hangs is seen from outside, with the name of what hangs, though its process lives."""
    scene.house._beat("posting")
    now = scene.house.clock()
    scene.house.beats = dict.fromkeys(scene.house.beats, now)
    scene.house.beats["posting"] = now - timedelta(hours=1)
    async with scene.client() as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.text == "not ready: posting is held up\n"
        assert (await client.get("/healthz")).status_code == 200
        assert "The loop for posting is held up" in (await client.get("/")).text


async def test_probes_need_no_token(scene: Scene) -> None:
    """The platform that restarts a container is given no secret for it."""
    async with scene.client(TOKEN, host="0.0.0.0") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
