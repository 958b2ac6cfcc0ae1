"""Reddit: the exact text and fields of posts and comments, how far back is read, and what Reddit does not let go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd.connector import CredentialsRefused, CursorStuck, Link, Person, RateLimited, Record, SourceError
from syncd.promises import Read, read
from tests.connectors.vendors import SECRET
from tests.connectors.vendors.reddit import APP, CASE, NOW, TOKEN, FakeReddit, post, reddit, remark

HOUR = timedelta(hours=1)
ONE = reddit()
FOUND = {"acme": [post(1, title="acme crash"), post(2)], "beta": [post(3, title="crash of acme", subreddit="beta")]}
WITH_COMMENTS = reddit(comments=True)


async def one(item: dict[str, Any], **settings: Any) -> Read:
    """What becomes of a single post or comment."""
    is_post = item["name"].startswith("t3_")
    vendor = FakeReddit({"acme": [item] if is_post else []}, {"acme": [] if is_post else [item]})
    return await read(CASE, vendor, connector=reddit(comments=not is_post, **settings))


async def the_record(item: dict[str, Any], **settings: Any) -> Record:
    """The record of a single post or comment."""
    [record] = (await one(item, **settings)).records
    return record


def asked(given: Read, path: str) -> list[dict[str, str]]:
    """The parameters of the calls to a path."""
    return [dict(request.url.params) for _, request in given.calls if request.url.path == path]


class TestRecord:
    async def test_a_post_is_its_title_and_its_text(self) -> None:
        """The markdown stays as its author wrote it, and nothing is unescaped twice."""
        record = await the_record(post(1, title="Sync stops", selftext="**Why?** a &lt; b\n\n- one"))
        assert record.text == "Sync stops\n\n**Why?** a &lt; b\n\n- one"

    async def test_every_field_of_a_post_stands_where_zentrik_wants_it(self) -> None:
        """The post can be found, opened and grouped; what moves by itself is not part of it."""
        record = await the_record(post(1))
        assert (record.id, record.kind, record.title) == ("t3_1ab0001", "review", "Sync stops at file 1")
        assert record.occurred_at == NOW - HOUR
        where = "https://www.reddit.com/r/acme/comments/1ab0001/sync_stops/"
        assert record.links == (Link(where, "Open Reddit post", "post", primary=True),)
        assert record.people == (Person("quiet_otter", None, "author"),)
        assert record.attributes == {"subreddit": "acme", "type": "post", "flair": "Bug"}
        assert (ONE.provider, ONE.default_namespace("mine")) == ("reddit", "reddit")

    async def test_every_field_of_a_comment_stands_where_zentrik_wants_it(self) -> None:
        """A comment says what it is a comment on, and leads to itself."""
        record = await the_record(remark(2))
        assert (record.id, record.kind) == ("t1_k7c0002", "review")
        assert record.title == "Comment on: Sync stops at file 1"
        assert record.text == "Same here, since Monday."
        assert record.context == "A comment on the post: Sync stops at file 1"
        where = "https://www.reddit.com/r/acme/comments/1ab0001/sync_stops/k7c0002/"
        assert record.links == (Link(where, "Open Reddit comment", "comment", primary=True),)
        assert record.attributes == {"subreddit": "acme", "type": "comment", "postId": "t3_1ab0001"}

    async def test_a_link_post_is_its_title(self) -> None:
        """Who shares a link with a title says something; where the link leads stands beside it."""
        record = await the_record(post(1, is_self=False, selftext="", url="https://blog.test/acme-is-slow"))
        assert record.text == "Sync stops at file 1"
        assert record.attributes["linksTo"] == "https://blog.test/acme-is-slow"

    async def test_half_an_address_is_no_link(self) -> None:
        """The url of a crosspost is relative, and so is not one; the permalink leads to the post in any case."""
        record = await the_record(post(1, is_self=False, url="/r/other/comments/9zz/x/"))
        assert "linksTo" not in record.attributes
        assert [link.url for link in record.links] == ["https://www.reddit.com/r/acme/comments/1ab0001/sync_stops/"]

    @pytest.mark.parametrize("permalink", ["https://evil.test/", "", None, "javascript:alert(1)"])
    async def test_a_permalink_that_is_none_is_left_out(self, permalink: str | None) -> None:
        """A person is sent to Reddit or nowhere."""
        assert (await the_record(post(1, permalink=permalink))).links == ()

    async def test_it_can_be_feedback_instead_of_a_review(self) -> None:
        """What Reddit is to a team, they know best."""
        assert (await the_record(post(1), signal_type="feedback_record")).kind == "feedback_record"

    async def test_scores_and_counts_change_nothing(self) -> None:
        """A vote is no edit: the record stays the same."""
        assert await the_record(post(1)) == await the_record(post(1, score=900, ups=900, num_comments=77))

    async def test_an_edit_is_another_record(self) -> None:
        """The ledger notices what its author added."""
        edited = post(1, selftext="It worked before 4.2. EDIT: solved.", edited=NOW.timestamp())
        assert await the_record(post(1)) != await the_record(edited)


class TestGone:
    @pytest.mark.parametrize(
        "item",
        [
            post(1, selftext="[deleted]", author="[deleted]"),
            post(1, selftext="[removed]"),
            post(1, selftext="", is_self=False, removed_by_category="moderator"),
            post(1, selftext="[ Removed by Reddit ]"),
            post(1, author="AutoModerator"),
            remark(1, body="[deleted]", author="[deleted]"),
            remark(1, body=" [removed] "),
            remark(1, author="AutoModerator", body="Please read the rules."),
        ],
    )
    async def test_what_was_taken_away_or_is_a_robots_is_never_imported(self, item: dict[str, Any]) -> None:
        """It counts as passed over; nobody's withdrawn words are delivered."""
        given = await one(item)
        assert (given.error, given.records, given.set_aside) == (None, [], [])
        assert sum(page.filtered for page in given.pages) == 1

    async def test_words_outlive_their_authors_account(self) -> None:
        """Reddit keeps the text of a closed account: it is read, and nobody is named."""
        record = await the_record(post(1, author="[deleted]"))
        assert record.people == ()
        assert "before" in record.text

    async def test_other_things_in_a_list_are_passed_over(self) -> None:
        """A subreddit among the posts is neither a record nor an error."""
        subreddit = {"name": "t5_2qh1i", "created_utc": NOW.timestamp(), "title": "Acme"}
        given = await read(CASE, FakeReddit({"acme": [post(1), subreddit]}), connector=ONE)
        assert (given.ids, given.set_aside) == ({post(1)["name"]}, [])

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        )
    )
    async def test_a_wild_item_is_set_aside(self, wild: Any) -> None:
        """Whatever stands among the posts, the good ones come."""
        listing = {"kind": "Listing", "data": {"children": [{"kind": "t3", "data": post(1)}, wild], "after": None}}
        vendor = FakeReddit({})

        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json=listing) if "/r/" in request.url.path else vendor(request)

        given = await read(CASE, answer, connector=ONE)
        assert (given.error, given.ids) == (None, {post(1)["name"]})


class TestReading:
    async def test_it_asks_for_whole_pages_of_unescaped_texts(self) -> None:
        """A hundred items a call, and `&` written as it is; the cursor is the one Reddit gave."""
        vendor = FakeReddit({"acme": [*map(post, range(1, 151))]})
        given = await read(CASE, vendor, connector=ONE)
        assert len(given.ids) == 150
        assert asked(given, "/r/acme/new") == [
            {"limit": "100", "raw_json": "1"},
            {"limit": "100", "after": post(100)["name"], "raw_json": "1"},
        ]

    async def test_it_stops_where_everything_is_known(self) -> None:
        """A later reading goes back by the overlap and no further, however long the list is."""
        vendor = FakeReddit({"acme": [*map(post, range(1, 701))]})
        first = await read(CASE, vendor, connector=ONE)
        second = await read(CASE, vendor, first.checkpoint, connector=ONE, now=NOW + HOUR)
        assert (len(asked(first, "/r/acme/new")), len(asked(second, "/r/acme/new"))) == (7, 2)

    async def test_the_overlap_is_read_to_its_end(self) -> None:
        """A page that is only partly known is no end: what a moderator let through late stands between known posts."""
        held = post(500, hours_ago=40)
        vendor = FakeReddit({"acme": [*map(post, range(1, 100))]}, page=10)
        first = await read(CASE, vendor, connector=ONE)
        vendor.posts = {"acme": [*vendor.posts["acme"], held]}
        second = await read(CASE, vendor, first.checkpoint, connector=ONE)
        assert held["name"] in second.ids
        short = reddit(overlap="1h")
        assert held["name"] not in (await read(CASE, vendor, first.checkpoint, connector=short)).ids

    async def test_what_is_shown_late_is_not_behind_the_mark(self) -> None:
        """The mark is the newest post that was seen, not the time of reading: Reddit's lists lag behind."""
        vendor = FakeReddit({"acme": [post(5)]}, page=1)
        short = reddit(overlap="0s")
        first = await read(CASE, vendor, connector=short)
        late = [post(1), post(2), post(3)]
        vendor.posts = {"acme": [*late, post(5)]}
        second = await read(CASE, vendor, first.checkpoint, connector=short)
        assert {item["name"] for item in late} <= second.ids

    async def test_every_page_but_the_last_repeats_the_old_checkpoint(self) -> None:
        """Newest come first: a reading that breaks off has read nothing for good."""
        vendor = FakeReddit({"acme": [*map(post, range(1, 10))]}, page=3)
        given = await read(CASE, vendor, connector=ONE)
        marks = [page.checkpoint["read_until"] for page in given.pages]
        assert marks == [{}, {}, {"acme": (NOW - HOUR).isoformat()}]

    async def test_a_first_reading_goes_back_as_far_as_it_is_told(self) -> None:
        """With `since` no more is asked for than is needed."""
        vendor = FakeReddit({"acme": [*map(post, range(1, 701))]})
        given = await read(CASE, vendor, connector=ONE, since=NOW - 50 * HOUR)
        assert {post(number)["name"] for number in range(1, 51)} <= given.ids
        assert len(asked(given, "/r/acme/new")) == 2

    async def test_each_list_has_a_mark_of_its_own(self) -> None:
        """A subreddit that is added later is read from its beginning, and one that is taken out is forgotten."""
        vendor = FakeReddit({"acme": [post(1)], "beta": [post(90)]})
        first = await read(CASE, vendor, connector=ONE)
        both = await read(CASE, vendor, first.checkpoint, connector=reddit(subreddits=["acme", "beta"]))
        assert post(90)["name"] in both.ids
        beta = await read(CASE, vendor, both.checkpoint, connector=reddit(subreddits=["beta"]))
        assert beta.checkpoint == {"read_until": {"beta": (NOW - 90 * HOUR).isoformat()}}

    async def test_a_cursor_that_comes_again_ends_the_reading(self) -> None:
        """A list that leads round in circles is not read for ever, and its mark stays."""
        given = await read(CASE, CASE.circling(), connector=ONE) if CASE.circling else Read()
        assert isinstance(given.error, CursorStuck)
        assert given.checkpoint == {"read_until": {}}

    async def test_comments_come_only_when_asked_for(self) -> None:
        """They are many, and not everybody wants them."""
        vendor = FakeReddit({"acme": [post(1)]}, {"acme": [remark(1)]})
        assert (await read(CASE, vendor, connector=ONE)).ids == {"t3_1ab0001"}
        assert (await read(CASE, vendor, connector=WITH_COMMENTS)).ids == {"t3_1ab0001", "t1_k7c0001"}


class TestSearch:
    async def test_a_query_reads_what_it_finds_in_the_subreddits(self) -> None:
        """The search is kept to them, newest first."""
        connector = reddit(query="crash")
        given = await read(CASE, FakeReddit(FOUND), connector=connector)
        assert given.ids == {post(1)["name"]}
        [params] = asked(given, "/r/acme/search")
        wanted = {"q": "crash", "restrict_sr": "1", "sort": "new", "t": "all", "type": "link"}
        assert params == wanted | {"limit": "100", "raw_json": "1"}

    async def test_without_subreddits_all_of_reddit_is_searched(self) -> None:
        """A product is spoken of in places nobody thought of."""
        given = await read(CASE, FakeReddit(FOUND), connector=reddit(query="crash", subreddits=[]))
        assert given.ids == {post(1)["name"], post(3)["name"]}

    async def test_another_query_is_read_from_its_beginning(self) -> None:
        """The mark belongs to the words that were searched for."""
        first = await read(CASE, FakeReddit(FOUND), connector=reddit(query="crash"))
        old = {"acme": [post(900, title="acme is slow")]}
        second = await read(CASE, FakeReddit(old), first.checkpoint, connector=reddit(query="slow"))
        assert second.ids == {post(900)["name"]}

    def test_what_cannot_be_searched_is_refused(self) -> None:
        """A setting that would read something else than it says stops nothing later."""
        with pytest.raises(ValidationError, match="comments cannot be searched"):
            reddit(query="crash", comments=True)
        with pytest.raises(ValidationError, match="give subreddits, or a query"):
            reddit(subreddits=[])
        with pytest.raises(ValidationError, match="subreddits"):
            reddit(subreddits=["r/acme"])


class TestTheEndOfAList:
    async def test_a_span_that_reddit_does_not_show_is_told_once(self) -> None:
        """More came since the last reading than a list is long: what is lost is said, with its span."""
        mark = {"read_until": {"acme": (NOW - 1200 * HOUR).isoformat()}}
        vendor = FakeReddit({"acme": [*map(post, range(1, 1500))]})
        given = await read(CASE, vendor, mark, connector=ONE)
        assert len(given.ids) == 1000
        [aside] = given.set_aside
        assert aside.place == "Reddit: posts of r/acme since 2026-09-13 09:00 UTC"
        assert aside.reason == (
            "those before 2026-09-21 17:00 UTC cannot be had: Reddit shows the newest 1000 or so only. Read it more "
            "often, so that fewer come between"
        )
        again = await read(CASE, vendor, given.checkpoint, connector=ONE)
        assert again.set_aside == []

    async def test_the_same_span_has_the_same_place(self) -> None:
        """A reading that broke off after it was told makes no second entry of it."""
        mark = {"read_until": {"acme": (NOW - 1200 * HOUR).isoformat()}}
        places = set()
        for later in (timedelta(0), HOUR):
            vendor = FakeReddit({"acme": [*map(post, range(1, 1500))]})
            given = await read(CASE, vendor, mark, connector=ONE, now=NOW + later)
            places |= {aside.place for aside in given.set_aside}
        assert len(places) == 1

    async def test_a_first_reading_says_what_is_out_of_reach(self) -> None:
        """Nobody takes a thousand posts for all there are."""
        given = await read(CASE, FakeReddit({"acme": [*map(post, range(1, 1500))]}), connector=ONE)
        assert [aside.place for aside in given.set_aside] == ["Reddit: posts of r/acme from the beginning"]

    async def test_removed_posts_count_towards_the_end(self) -> None:
        """Reddit leaves some out of its thousand; the end is seen all the same."""
        given = await read(CASE, FakeReddit({"acme": [*map(post, range(1, 1500))]}, most=940), connector=ONE)
        assert len(given.set_aside) == 1

    async def test_a_list_that_is_simply_short_hides_nothing(self) -> None:
        """A small subreddit is read whole, and no alarm is raised."""
        given = await read(CASE, FakeReddit({"acme": [*map(post, range(1, 400))]}), connector=ONE)
        assert (len(given.ids), given.set_aside) == (399, [])

    async def test_a_long_list_that_reaches_the_mark_has_no_gap(self) -> None:
        """All that is new was shown; that older posts are not is of no concern."""
        mark = {"read_until": {"acme": (NOW - 900 * HOUR).isoformat()}}
        vendor = FakeReddit({"acme": [*map(post, range(1, 1500))]})
        given = await read(CASE, vendor, mark, connector=reddit(overlap="30d"))
        assert given.set_aside == []

    async def test_a_search_ends_earlier(self) -> None:
        """At 250 or so, a search has given all it will."""
        vendor = FakeReddit({"acme": [*map(post, range(1, 500))]}, most=247)
        given = await read(CASE, vendor, connector=reddit(query="Sync"))
        [aside] = given.set_aside
        assert aside.place == "Reddit: posts found in r/acme from the beginning"
        assert "the newest 250 or so only" in aside.reason


class TestShutSubreddits:
    TWO = reddit(subreddits=["closed", "acme"])

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (httpx.Response(403, json={"reason": "private", "message": "Forbidden", "error": 403}), "private"),
            (httpx.Response(404, json={"reason": "banned", "message": "Not Found", "error": 404}), "banned"),
            (httpx.Response(302, headers={"Location": "/subreddits/search?q=closed"}), "no subreddit of that name"),
        ],
    )
    async def test_one_that_is_shut_leaves_the_others_open(self, answer: httpx.Response, words: str) -> None:
        """It is set aside with the reason, and the other is read; nothing of it counts as read."""
        given = await read(CASE, FakeReddit({"acme": [post(1)]}, shut={"closed": answer}), connector=self.TWO)
        assert (given.error, given.ids) == (None, {post(1)["name"]})
        [aside] = given.set_aside
        assert aside.place == "Reddit: posts of r/closed"
        assert words in aside.reason
        assert given.checkpoint == {"read_until": {"acme": (NOW - HOUR).isoformat()}}

    async def test_when_all_are_shut_the_reading_fails(self) -> None:
        """A connector that reads nothing does not look well: an app that was not approved is seen."""
        forbidden = httpx.Response(403, json={"message": "Forbidden", "error": 403})
        shut = dict.fromkeys(("closed", "acme"), forbidden)
        given = await read(CASE, FakeReddit({}, shut=shut), connector=self.TWO)
        assert isinstance(given.error, SourceError)
        assert given.error.code == "subreddit_shut"
        assert "has not approved this app" in str(given.error)

    async def test_one_that_opens_again_is_read_from_where_it_was(self) -> None:
        """What was posted meanwhile is not behind the mark."""
        posts = {"acme": [post(1)], "closed": [post(50)]}
        shut = {"closed": httpx.Response(403, json={"reason": "private"})}
        first = await read(CASE, FakeReddit(posts, shut=shut), connector=self.TWO)
        second = await read(CASE, FakeReddit(posts), first.checkpoint, connector=self.TWO)
        assert post(50)["name"] in second.ids


class TestWays:
    async def test_it_shows_itself_as_reddit_asks(self) -> None:
        """The name in the User-Agent is of Reddit's form, on the call for a token as well."""
        given = await read(CASE, FakeReddit({"acme": [post(1)]}), connector=reddit(username="acme_bot"))
        agents = {request.headers["User-Agent"] for _, request in given.calls}
        assert agents == {f"python:syncd.{APP}:v1 (by /u/acme_bot)"}
        assert ONE.agent == f"python:syncd.{APP}:v1"

    async def test_one_token_serves_a_whole_reading(self) -> None:
        """It is fetched once, with the app's own credentials, which the API never sees."""
        given = await read(CASE, CASE.full())
        to_www = [request for _, request in given.calls if request.url.host == "www.reddit.com"]
        assert len(to_www) == 1
        rest = [request for _, request in given.calls if request.url.host != "www.reddit.com"]
        assert {request.headers["Authorization"] for request in rest} == {f"Bearer {TOKEN}"}
        assert not [request for request in rest if SECRET in str(request.headers)]

    async def test_a_quota_that_is_used_up_is_waited_for(self) -> None:
        """Less than one call is none: the decimal is read as such, and the reset is a span of seconds."""
        vendor = FakeReddit({"acme": [*map(post, range(1, 4))]}, page=2)
        vendor.headers = {"x-ratelimit-remaining": "0.5", "x-ratelimit-reset": "200"}
        given = await read(CASE, vendor, connector=ONE)
        assert (given.error, given.waited) == (None, 200)

    async def test_a_429_is_waited_out_until_the_reset(self) -> None:
        """Reddit names no other time; one that is far away ends the reading with it."""
        near = httpx.Response(429, headers={"x-ratelimit-reset": "120"})
        far = httpx.Response(429, headers={"x-ratelimit-reset": "7200"})
        assert ONE.asks_to_wait(near, NOW) == timedelta(seconds=120)
        vendor = FakeReddit({})
        given = await read(CASE, lambda r: far if r.url.path == "/r/acme/new" else vendor(r), connector=ONE)
        assert isinstance(given.error, RateLimited)

    @pytest.mark.parametrize("wild", ["nan", "inf", "-4", "soon", "1e300", ""])
    def test_a_wild_reset_is_none(self, wild: str) -> None:
        """A number nobody could mean is not obeyed."""
        headers = {"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": wild}
        assert ONE.asks_to_wait(httpx.Response(200, headers=headers), NOW) is None

    async def test_no_more_than_a_hundred_calls_are_made_a_minute(self) -> None:
        """Reddit's own limit is kept without being told."""
        subreddits = [f"sub_{number}" for number in range(120)]
        vendor = FakeReddit({name: [] for name in subreddits})
        given = await read(CASE, vendor, connector=reddit(subreddits=subreddits))
        at = [when for when, _ in given.calls]
        assert len(at) == 121
        assert at[100] - at[0] >= timedelta(minutes=1)

    async def test_wrong_credentials_are_explained(self) -> None:
        """The operator learns which of the texts on Reddit's page is which."""
        given = await read(CASE, CASE.full(), connector=CASE.forged)
        assert isinstance(given.error, CredentialsRefused)
        assert "the short text below the app's name" in str(given.error)

    async def test_it_reads_from_servers_of_ones_own(self) -> None:
        """`base_url` moves the API, `token_url` the token."""
        moved = reddit(base_url="https://proxy.test", token_url="https://www.reddit.com/api/v1/access_token")
        assert moved.hosts() == {"proxy.test", "www.reddit.com"}
        given = await read(CASE, FakeReddit({"acme": [post(1)]}), connector=moved)
        assert given.ids == {post(1)["name"]}
        assert reddit(token_url="https://proxy.test/token").hosts() == {"oauth.reddit.com", "proxy.test"}
