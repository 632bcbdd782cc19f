"""The built site: nothing of it asks another machine, links lead somewhere, and the search has an index."""

import importlib
import inspect
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .blocks import ROOT

#: Attributes that make a browser ask for something by itself; a link is followed by a person.
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href", "xlink:href"),
    "link": ("href",),
}
OUTSIDE = re.compile(r"(?:https?:)?//")


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of scripts."""

    def __init__(self, path):
        super().__init__()
        self.tags = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))


def outside_requests(tags):
    """What a browser would fetch from elsewhere."""
    found = []
    for tag, attributes in tags:
        if tag == "link" and not {"stylesheet", "icon", "preconnect", "preload", "manifest", "dns-prefetch"} & set(
            attributes.get("rel", "").split()
        ):
            continue
        found += [attributes[name] for name in FETCHED.get(tag, ()) if OUTSIDE.match(attributes.get(name, "").strip())]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def tags(site):
    return {path: Tags(path).tags for path in sorted(site.rglob("*.html"))}


def test_every_page_is_there(site):
    built = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written <= built
    assert {"CONTRIBUTING.md", "CHANGELOG.md"} <= built


def test_nothing_is_fetched_from_elsewhere(tags):
    assert {path.name: found for path, each in tags.items() if (found := outside_requests(each))} == {}


def test_styles_and_own_scripts_fetch_nothing_from_elsewhere(site):
    css = [path for path in site.rglob("*.css") if re.search(r"url\(\s*[\"']?(?:https?:)?//", path.read_text())]
    assert css == []
    imports = [path for path in site.rglob("*.css") if re.search(r"@import\s+[\"'](?:https?:)?//", path.read_text())]
    assert imports == []


def test_the_theme_is_never_asked_to_load_mermaid(tags):
    """It would come from a content delivery network, when a page has such a drawing."""
    classes = {name for each in tags.values() for _, attributes in each for name in attributes.get("class", "").split()}
    assert "md-content" in classes
    assert "mermaid" not in classes


def test_links_within_the_site_lead_to_pages_and_anchors(site, tags):
    anchors = {
        path: {attributes[name] for _, attributes in each for name in ("id", "name") if name in attributes}
        for path, each in tags.items()
    }
    broken = []
    for path, each in tags.items():
        for tag, attributes in each if path.name != "404.html" else ():  # it is shown for any address of a server
            link = urlsplit(attributes.get("href", ""))
            if tag != "a" or link.scheme or link.netloc or not (link.path or link.fragment):
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            target = target / "index.html" if target.is_dir() else target
            fragment = unquote(link.fragment)
            if not target.is_file() or (fragment and target in anchors and fragment not in anchors[target]):
                broken.append(f"{path.relative_to(site)}: {attributes['href']}")
    assert broken == []


def test_public_functions_and_classes_are_on_the_page_of_the_api(site):
    shown = set(re.findall(r'id="(easyvideor1[\w.]*)"', (site / "reference" / "api.html").read_text(encoding="utf-8")))
    for package in ("components", "data", "video", "rewards", "evaluation", "toyworld"):
        module = importlib.import_module(f"easyvideor1.{package}")
        public = [
            name
            for name in module.__all__
            if inspect.isclass(found := getattr(module, name)) or inspect.isroutine(found)
        ]
        assert len(public) >= 3
        places = {name: {f"easyvideor1.{package}.{name}", f"easyvideor1.{package}.{name}.{name}"} for name in public}
        assert [name for name in public if not places[name] & shown] == [], package
    assert not any(part.startswith("_") for name in shown for part in name.split("."))


def test_the_search_has_every_page_and_works_from_disk(site):
    script = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    index = json.loads(script[script.index("{") :].rstrip().rstrip(";"))
    pages = {Path(entry["location"].partition("#")[0]).name for entry in index["docs"]}
    assert {"algorithms.html", "configuration.html", "index.html"} <= pages
    assert any("GRPO" in entry["text"] for entry in index["docs"])


def test_a_request_to_elsewhere_is_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<script src="https://unpkg.com/x"></script><img src="//cdn/x.png"><a href="https://a.b">x</a>'
        '<link rel="stylesheet" href="https://fonts/x.css"><link rel="canonical" href="https://a.b/">'
    )
    assert outside_requests(Tags(page).tags) == ["https://unpkg.com/x", "//cdn/x.png", "https://fonts/x.css"]
