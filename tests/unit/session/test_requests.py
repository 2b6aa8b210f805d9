"""One running, one waiting: which results arrive, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from fake_session import ByHand, Clock, FakePredictor, drawn, fake_session
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.requests import Request, Requests, failure_sentence

BOX = (4.0, 4.0, 12.0, 12.0)


def request(key, value, log):
    return Request(key, lambda: lambda: value, log.append, lambda error: log.append(repr(error)))


def test_the_newest_replaces_the_one_that_waits():
    execute, log = ByHand(), []
    requests = Requests(execute, lambda busy: None)
    for number in range(4):
        requests.submit(request("a", number, log))
    execute.run()
    assert log == [0, 3]


def test_what_runs_when_the_epoch_changes_gives_nothing():
    execute, log = ByHand(), []
    requests = Requests(execute, lambda busy: None)
    requests.submit(request("a", 1, log))
    requests.invalidate()
    requests.submit(request("a", 2, log))
    assert len(execute.jobs) == 1  # never two at a time
    execute.run()
    assert log == [2]


def test_a_kept_request_is_not_replaced_and_goes_first():
    execute, log = ByHand(), []
    requests = Requests(execute, lambda busy: None)
    requests.submit(request("a", 1, log))
    requests.submit_when_idle(request("many", 4, log))
    requests.submit(request("b", 2, log))
    requests.submit_kept(request("c", 3, log))
    execute.run()
    assert log == [1, 3, 2, 4]


def test_busy_is_told_once_in_the_beginning_and_once_in_the_end():
    execute, told = ByHand(), []
    requests = Requests(execute, told.append)
    requests.submit(request("a", 1, []))
    requests.submit(request("a", 2, []))
    assert told == [True]
    execute.run()
    assert told == [True, False]


def test_many_jobs_that_end_at_once_do_not_nest():
    left = [5000]

    def job_done(_):
        left[0] -= 1
        if left[0]:
            requests.submit(Request("a", lambda: lambda: None, job_done, lambda error: None))

    requests = Requests(lambda job, done, failed: done(job()), lambda busy: None)
    requests.submit(Request("a", lambda: lambda: None, job_done, lambda error: None))
    assert left == [0]


def test_an_executor_that_was_shut_down_counts_as_a_failure():
    def closed(job, done, failed):
        raise RuntimeError("cannot schedule new futures after shutdown")

    log = []
    requests = Requests(closed, lambda busy: None)
    requests.submit(request("a", 1, log))
    assert len(log) == 1
    assert "shutdown" in log[0]
    assert not requests.is_busy


def test_fast_clicks_show_several_previews_and_end_with_the_right_mask():
    clock = Clock(0.150)
    session = fake_session(clock)
    number = session.new_object(Prompts(BOX))
    clock.run()
    shown = []
    session.mask_changed.connect(lambda id_: shown.append(session.get(id_).stale))
    rng = np.random.default_rng(0)
    clicks = rng.uniform(0, 23, (20, 2))
    before = clock.now

    def click(count):
        flags = np.arange(count) % 3 > 0
        session.set_prompts(number, Prompts(BOX, clicks[:count], flags))

    for index in range(20):
        clock.at(before + 0.060 * index, lambda count=index + 1: click(count))
    clock.run()
    # Each click tells of a change too, as the mask is stale then: masks that came are the rest.
    assert len(shown) - 20 >= 8
    final = session.get(number)
    assert not final.stale
    assert np.array_equal(final.mask.to_array(), drawn((24, 30), final.prompts))
    assert clock.now - before <= 20 * 0.060 + 2 * 0.150


def test_a_result_that_comes_after_a_newer_one_is_known_is_not_shown():
    execute = ByHand()
    session = fake_session(execute)
    first, second = Prompts(BOX), Prompts(BOX, [(20, 20)], [True])
    number = session.new_object(first)
    execute.run()
    session.set_prompts(number, second)
    session.undo()  # its mask is known
    assert not session.get(number).stale
    execute.run()
    assert session.get(number).prompts == first
    assert np.array_equal(session.get(number).mask.to_array(), drawn((24, 30), first))
    assert not session.get(number).stale


@pytest.mark.parametrize("what", ["discard", "image", "model", "none", "cancel"])
def test_results_for_something_that_is_gone_do_not_arrive(what):
    execute = ByHand()
    session = fake_session(execute)
    number = session.new_object(Prompts(BOX))
    if what == "discard":
        session.discard(number)
    elif what == "image":
        session.set_image((24, 30), "other", lambda predictor: None)
        session.new_object()  # of the same number
    elif what == "model":
        session.set_predictor(None)
    elif what == "none":
        session.set_prompts(number, None)
    else:
        session.cancel()
    execute.run()
    assert session.get(number) is None or session.get(number).mask is None
    assert not session.is_busy
    assert session.failures == []


def test_a_preview_of_one_object_arrives_while_another_is_committed():
    execute = ByHand()
    session = fake_session(execute)
    first = session.new_object(Prompts(BOX))
    execute.run()
    second = session.new_object(Prompts((15, 15, 20, 20)))
    session.commit(first)
    execute.run()
    assert session.get(second).mask.area == 36


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("odd\nthing"), "odd thing"),
        (MemoryError(), "not enough memory"),
        (OSError(28, "No space left on device"), "Check the disk"),
        (ValueError("The click is outside. Remove it."), "The click is outside. Remove it."),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "not enough memory"),
    ],
)
def test_a_failure_is_one_line_and_the_next_request_works(error, says):
    assert says in failure_sentence(error)
    session = fake_session()
    session.predictor.errors.append(error)
    number = session.new_object(Prompts(BOX))
    assert [says in line and "\n" not in line for line in session.failures] == [True]
    assert session.get(number).prompts == Prompts(BOX)
    session.predict_now()
    assert session.get(number).mask.area == 81


def test_the_image_is_given_to_the_predictor_once_and_again_after_a_failure():
    session = fake_session()
    given = []

    def prepare(predictor):
        given.append(predictor)
        if len(given) == 1:
            raise OSError("the image is gone")

    session.set_image((24, 30), "other", prepare)
    number = session.new_object(Prompts(BOX))
    assert "the image is gone" in session.failures[0]
    session.predict_now()
    session.set_prompts(number, Prompts((0, 0, 5, 5)))
    assert given == [session.predictor] * 2
    assert session.get(number).mask.area == 36


class InTiles(FakePredictor):
    """Takes long, and says so; something happens while it runs."""

    def __init__(self, meanwhile):
        super().__init__()
        self.meanwhile, self.ended = meanwhile, []

    def is_in_tiles(self, prompts):
        return True

    def predict(self, prompts, *, progress):
        progress(0, 2)
        self.meanwhile(len(self.ended))
        self.ended.append(False)
        progress(1, 2)
        self.ended[-1] = True
        return super().predict(prompts)


def tiled_session(meanwhile):
    execute = ByHand()
    session = fake_session(execute)
    failed = []
    session.failed.connect(failed.append)
    session.set_predictor(predictor := InTiles(lambda count: meanwhile(session, count)))
    return session, execute, predictor, failed


def test_a_large_object_is_given_up_for_the_next_click_and_nobody_is_told():
    def click(session, count):
        assert session.tiles == (0, 2)
        if count == 0:
            session.set_prompts(1, Prompts(BOX, [(6, 6)], [True]))

    session, execute, predictor, failed = tiled_session(click)
    session.new_object(Prompts(BOX))
    execute.run()
    assert predictor.ended == [False, True]
    assert session.tiles is None
    assert not failed
    assert session.get(1).mask is not None
    assert not session.is_busy


def test_a_large_object_is_given_up_when_it_is_cancelled():
    session, execute, predictor, failed = tiled_session(lambda session, count: session.cancel())
    session.new_object(Prompts(BOX))
    execute.run()
    assert predictor.ended == [False]
    assert not failed
    assert not session.is_busy


def test_a_large_object_that_is_to_be_committed_is_not_given_up():
    def draw_another(session, count):
        if count == 0:
            session.new_object(Prompts((20, 20, 30, 30)))

    session, execute, predictor, _ = tiled_session(draw_another)
    session.live = False
    session.new_object(Prompts(BOX))
    session.commit(1)
    session.live = True
    execute.run()
    assert predictor.ended == [True, True]
    assert session.get(1).committed
