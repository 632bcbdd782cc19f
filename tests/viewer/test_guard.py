"""Who may ask, and what for. The whole application is asked, as a server would."""

import html
import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.library import Library

from .runs import HOSTILE, group, said, scored, write_run, write_step

TOKEN = "a-token-of-some-length"
PATHS = (
    "/",
    "/rollouts",
    "/rollouts/mine",
    "/rollouts/mine/rows",
    "/rollouts/mine/progress",
    "/static/viewer.css",
    "/no",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def library(tmp_path):
    write_run(tmp_path / "runs" / "mine")
    return Library([tmp_path / "runs"])


def client(library, host="http://127.0.0.1:8420", **values):
    return TestClient(build_app(library, **values), base_url=host, follow_redirects=False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(library, path, method):
    answer = client(library).request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost", "[::1]:9", "127.0.0.5", "LOCALHOST:1"])
def test_names_of_this_machine_are_answered(library, host):
    assert client(library).get("/rollouts", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8420",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "192.168.0.7",
        "[fe80::1]",
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_other_names_are_refused_without_a_token(library, host, path):
    answer = client(library).get(path, headers={"host": host})
    assert answer.status_code == 400 and "mine" not in answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "given", ["", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?token={TOKEN[:-1]}", f"?Token={TOKEN}"]
)
def test_a_token_is_needed_everywhere(library, path, given):
    answer = client(library, "http://192.168.0.7", token=TOKEN).get(path + given)
    assert answer.status_code == 401
    assert "mine" not in answer.text and TOKEN not in answer.text and "set-cookie" not in answer.headers


def test_the_token_becomes_a_cookie_and_leaves_the_address(library):
    browser = client(library, "http://192.168.0.7", token=TOKEN)
    answer = browser.get(f"/rollouts/mine?task=boolean&token={TOKEN}&mark=cut&mark=flat")
    assert (answer.status_code, answer.headers["location"]) == (303, "/rollouts/mine?task=boolean&mark=cut&mark=flat")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    assert TOKEN not in cookie
    assert browser.get("/rollouts/mine").status_code == 200
    assert client(library, "http://192.168.0.7", token="another").get("/rollouts").status_code == 401


@pytest.mark.parametrize("token", ["ab+c/d=", "a b&token=x#%41", "\N{SNOWMAN}; \N{EURO SIGN}"])
def test_any_token_opens_the_address_that_is_printed(library, token):
    browser = client(library, "http://192.168.0.7", token=token)
    assert browser.get(f"/rollouts?token={quote(token, safe='')}").status_code == 303
    assert browser.get("/rollouts").status_code == 200


@pytest.mark.parametrize(
    "cookie", ["evr1_view=x", "evr1_view_00000000=" + TOKEN, "a=b; ;;=;", "\x80\xff", "evr1_view_x"]
)
def test_other_cookies_open_nothing(library, cookie):
    answer = client(library, "http://192.168.0.7", token=TOKEN).get(
        "/rollouts", headers={"cookie": cookie.encode("latin-1")}
    )
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "///evil.example"])
def test_a_token_leads_to_no_other_host(library, path):
    answer = client(library, "http://192.168.0.7", token=TOKEN).get(f"http://192.168.0.7{path}?token={TOKEN}")
    assert answer.status_code == 303
    assert re.fullmatch(r"/[^/\\].*", answer.headers["location"])


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_sealed(library, path):
    answer = client(library).get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/rollouts", "/rollouts/mine", "/rollouts/mine/01-grpo/1/0", "/no"])
def test_pages_need_no_inline_script_and_name_no_other_host(library, path):
    page = client(library).get(path).text
    assert not re.findall(r"<script(?![^>]*\bsrc=\"/static/)[^>]*>", page)
    assert not re.findall(r"\son\w+=|\sstyle=|javascript:", page)
    assert not re.findall(r"(?:src|href|action)=\"(?!/|#|\?|data:,)[^\"]*", page)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2Fapp.py",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/rollouts/..%2F..%2Fetc",
        "/rollouts/mine/..%2F..%2F..%2Fsecret/1/0",
        "/rollouts/mine/../1/0",
        "/rollouts/mine/./1/0",
        "/rollouts/mine/01-grpo%2F..%2F01-grpo/1/0",
        "/rollouts/mine/01-grpo/1/-1",
        "/rollouts/mine/01-grpo/99999999999999999999/0",
        "/rollouts/mine/01-grpo/1/99999999999999999999",
        "/frames/mine/..%2F..%2Fetc%2Fpasswd/0",
        "/frames/mine/" + "0" * 64 + "/0",
        "/frames/../" + "0" * 64 + "/0",
    ],
)
def test_addresses_lead_nowhere_else(library, tmp_path, path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "step_000001.jsonl").write_text("hidden words")
    answer = client(library).get(path)
    assert answer.status_code in (404, 307)
    assert "hidden words" not in answer.text and "root:" not in answer.text


def test_nothing_is_written_into_a_run(library, tmp_path):
    def state():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}

    before = state()
    browser = client(library)
    for path in (*PATHS, "/rollouts/mine/01-grpo/1/0", "/rollouts/mine/01-grpo/1/0?colour=logprob"):
        browser.get(path)
    assert state() == before


def test_everything_of_a_model_or_a_row_is_escaped(tmp_path):
    run = tmp_path / "runs" / HOSTILE.replace("/", "_")
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "config.yaml").write_text("name: x\n")
    bad = scored(1.0, HOSTILE, reason=HOSTILE, parts={HOSTILE: 1.0})
    record = group(
        0,
        [
            said(HOSTILE, score=bad, responses=(HOSTILE, HOSTILE)),
            said(f"<answer>{HOSTILE}</answer>", parsed=HOSTILE, off_policy=HOSTILE, origin="offline"),
        ],
        task="multiple_choice",
        sample=HOSTILE,
        source=HOSTILE,
        question=f"<video>{HOSTILE}",
        answer=HOSTILE,
        options=(HOSTILE,),
        prompt=HOSTILE,
    )
    write_step(run, 1, [record, group(1, [], error=HOSTILE, trajectories=())], stage="01-grpo")
    library = Library([tmp_path / "runs"])
    (entry,) = library.runs()
    browser = client(library)
    base = f"/rollouts/{entry.key}"
    indexed(browser, base)
    for path in (
        "/rollouts",
        base,
        f"{base}?by=response",
        f"{base}/01-grpo/1/0",
        f"{base}/01-grpo/1/1",
        f"{base}?text=%3C%2Fscript%3E",
    ):
        answer = browser.get(path)
        assert answer.status_code == 200, path
        page = answer.text
        assert "<script>alert" not in page and "<img src=x" not in page and "{{" not in page.replace("{{ 7*7 }}", ""), (
            path
        )
        assert "</script>" not in page.partition("<body>")[2], path
        body = page.partition("<body>")[2]
        assert "&lt;script&gt;alert" in body and "{{ 7*7 }}" in body, path
        assert not re.search(r"evil\W*49", html.unescape(body)), path
    rows = browser.get(f"{base}/rows").json()["html"]
    assert "<script" not in rows and "&lt;/script&gt;" in rows
    page = browser.get(f"{base}/01-grpo/1/0").text
    reader = Isolation()
    reader.feed(page)
    assert reader.turned > 5 and reader.loose == []


class Isolation(HTMLParser):
    """Finds marks that turn the direction of text outside of elements that end it: blocks, and those that the style
    isolates."""

    ENDS = (
        *("bdi", "a", "b", "code", "td", "th", "dt", "dd", "li", "h1", "p", "pre", "figcaption", "option", "title"),
        *("summary", "div", "dl", ".chip", ".range", ".task"),
    )
    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self):
        super().__init__()
        self.open, self.loose, self.turned = [], [], 0

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            names = (dict(attributes).get("class") or "").split()
            self.open.append((tag, {tag, *(f".{name}" for name in names)}))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if "\u202e" in data:
            self.turned += 1
            if not self.open[-1][1] & set(self.ENDS):
                self.loose.append((self.open[-1], data[:40]))


def test_the_style_isolates_inline_elements(library):
    style = client(library).get("/static/viewer.css").text
    assert re.search(r"(?m)^a, b, code[^{]*\{ unicode-bidi: isolate; \}", style)


def indexed(browser, base):
    for _ in range(400):
        if browser.get(f"{base}/progress").json()["done"]:
            return
    raise AssertionError("the index was not completed")
