"""A connector to one web API: where it is, and which hosts it may ask."""

from __future__ import annotations

from abc import abstractmethod
from urllib.parse import urlsplit

from pydantic import Field

from syncd.connector import Connector, WebAddress


class Api(Connector):
    """A connector whose requests go to one API, at the vendor's own address or at `base_url`."""

    base_url: WebAddress | None = Field(
        None, description="Where the API is, when not at the vendor's own address: a proxy, a server of your own."
    )

    @abstractmethod
    def home(self) -> str:
        """The vendor's own address of the API, without a slash at its end: `https://api.gong.io`."""

    @property
    def base(self) -> str:
        """Where the API is asked."""
        return self.base_url or self.home()

    def url(self, path: str) -> str:
        """The address of a path that begins with a slash, or of a link that the vendor gave.

        A vendor behind a proxy writes its own address into its links: such a link is asked for at `base_url` as well.
        A link to anywhere else stays what it is, and is refused unless its host is declared. A `base_url` that ends
        with what the path begins with, like `/v2`, says the same: it is not repeated.
        """
        if path.startswith("/"):
            return self.base + path[_overlap(urlsplit(self.base).path, path) :]
        home = self.home()
        if path.startswith(home + "/"):
            return self.url(path[len(home) :])
        return self.base + path[len(home) :] if path.startswith(home + "?") else path

    def token_address(self) -> str | None:
        """Where tokens are fetched, if that is another place."""
        return None

    def hosts(self) -> frozenset[str]:
        """The API's host, and that of its tokens."""
        addresses = [self.base, *filter(None, [self.token_address()])]
        return frozenset(urlsplit(address).netloc for address in addresses)


def _overlap(base: str, path: str) -> int:
    """How much of a path's beginning stands at the end of a base already, in whole segments."""
    ends = (number for number, letter in enumerate(path + "/") if letter in "/?" and number)
    return max((number for number in ends if base.endswith(path[:number])), default=0)
