"""A browser for pages that are forms and nothing else."""

import html
import re
from urllib.parse import urljoin

import aiohttp


class Browser:
    """A browser that knows links, forms and cookies, of somebody who came from the program at `program`."""

    def __init__(self, program: str):
        self.program = program
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.url = self.page = ""

    async def go(self, method: str, url: str, form=None) -> str | None:
        """Follows redirects, up to one to the program, which is returned."""
        while True:
            async with self.session.request(method, url, data=form, allow_redirects=False) as answer:
                if answer.status not in (302, 303):
                    self.url, self.page = url, await answer.text()
                    assert answer.status == 200, self.page
                    return None
                method, form, url = "GET", None, urljoin(url, answer.headers["Location"])
            if url.startswith(self.program):
                return url

    async def press(self, **fields) -> str | None:
        """Sends the form of the page, with what stands in it and these fields."""
        action = html.unescape(re.search(r'<form[^>]* action="([^"]*)"', self.page)[1])
        for field in re.findall(r"<input[^>]*>", self.page):
            given = dict(re.findall(r'(\w+)="([^"]*)"', field))
            if given.get("type") == "hidden":
                fields.setdefault(given["name"], html.unescape(given.get("value", "")))
        return await self.go("POST", urljoin(self.url, action), fields)

    async def follow(self, words: str) -> str | None:
        """Follows the link of the page that says this."""
        links = re.findall(r'<a[^>]* href="([^"]*)"[^>]*>([^<]*)</a>', self.page)
        [link] = [link for link, said in links if html.unescape(said) == words]
        return await self.go("GET", urljoin(self.url, html.unescape(link)))
