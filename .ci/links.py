"""Check the links within a built site: python .ci/links.py FOLDER.

Every address without a host must be a file of the site, and every fragment the id of an
element of its page. Links to other sites need a network and are left out.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of a page, and the addresses that it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        """Keep ids and addresses of an element."""
        values = dict(attrs)
        self.ids |= {values["id"]} if values.get("id") else set()
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


def dead_links(site):
    """Return a line for each link that leads nowhere."""
    site = site.resolve()
    paths = [
        path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts
    ]
    pages = {path: Page(path) for path in paths}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            target = path if not parts.path else target
            known = pages[target].ids if target in pages else {parts.fragment}
            fragment = unquote(parts.fragment)
            if not target.is_file() or (fragment and fragment not in known):
                dead.append(f"{path.relative_to(site)}: {link}")
    return dead


if __name__ == "__main__":
    found = dead_links(Path(sys.argv[1]))
    print("\n".join(found), end="\n" if found else "")
    sys.exit(bool(found))
