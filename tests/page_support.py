"""A parser of pages that checks them."""

import html.parser


class Page(html.parser.HTMLParser):
    """Checks that every element is closed; collects text, links, ids and images.

    `tables` has the cells of each table by the heading above it.
    """

    void = frozenset({"meta", "img"})

    def __init__(self, text):
        super().__init__()
        self.title = ""
        self.open, self.tags, self.addresses, self.text = [], [], [], ""
        self.ids, self.unnamed, self.tables = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.title = ""
        elif tag == "table":
            self.tables[self.title] = []
        elif tag == "tr":
            self.tables[self.title].append([])
        elif tag in ("td", "th"):
            self.tables[self.title][-1].append("")
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        picture = {"img": "alt", "svg": "aria-label"}.get(tag)
        if picture and not given.get(picture) and "aria-hidden" not in given:
            self.unnamed.append(self.get_starttag_text())
        names = ("href", "src", "xlink:href")
        self.addresses += [value for name, value in attributes if name in names]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1:] and self.open[-1] in ("h1", "h2", "h3"):
            self.title += data
        elif self.open[-1:] and self.open[-1] in ("td", "th"):
            self.tables[self.title][-1][-1] += data
