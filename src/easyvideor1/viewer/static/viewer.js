// Works without a framework and without a build. Every page is complete without it, and better with it.
"use strict";
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const store = (value) => { try { localStorage.setItem("theme", value); } catch { /* private mode: for this page */ } };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  root.classList.add("js");

  const startTheme = () => {
    document.getElementById("theme").addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      store(root.dataset.theme);
    });
  };

  // An element with data-version and data-version-url: when that address answers with another version, the page is
  // fetched again and every [data-live][id] gets its new content. Focus, scrolling, marks and open details stay. Nothing
  // is asked while the tab is hidden.
  const PACE = 2000;
  const nameOf = (one) => one.id ? `#${one.id}` : `${one.tagName}|${one.getAttribute("href")}|${one.name}|${one.value}`;
  const kept = (old) => ({
    open: [...old.querySelectorAll("details")].map((one) => one.open),
    marked: new Set([...old.querySelectorAll("input:checked")].map(nameOf)),
    across: [...old.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]),
    focus: old.contains(document.activeElement) ? nameOf(document.activeElement) : null,
  });
  const restore = (now, was) => {
    now.querySelectorAll("details").forEach((one, at) => { if (at in was.open) one.open = was.open[at]; });
    now.querySelectorAll("input").forEach((one) => { if (was.marked.has(nameOf(one))) one.checked = true; });
    now.querySelectorAll(".scroll").forEach((one, at) => { [one.scrollLeft, one.scrollTop] = was.across[at] || [0, 0]; });
    if (was.focus) {
      const same = [...now.querySelectorAll("a, button, input, select, summary, [tabindex]")].find((one) => nameOf(one) === was.focus);
      if (same) same.focus({ preventScroll: true });
    }
  };
  const refresh = async () => {
    const fresh = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const place = [scrollX, scrollY];
    for (const old of document.querySelectorAll("[data-live][id]")) {
      const changed = fresh.getElementById(old.id);
      if (!changed) continue;
      for (const name of ["version", "versionUrl"]) if (name in changed.dataset) old.dataset[name] = changed.dataset[name];
      if (changed.innerHTML !== old.innerHTML) {
        const was = kept(old);
        old.innerHTML = changed.innerHTML;
        restore(old, was);
      }
    }
    scrollTo(...place);
    document.dispatchEvent(new CustomEvent("viewer:changed"));
  };
  const startLive = () => {
    const watched = document.querySelector("[data-version-url]");
    if (!watched || location.protocol === "file:") return;
    let timer = 0;
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden) return;  // it goes on when the tab is shown again
      try {
        const now = (await (await fetch(watched.dataset.versionUrl)).json()).version;
        if (now !== watched.dataset.version) {
          await refresh();
          if (now !== watched.dataset.version) watched.dataset.version = now;
        }
      } catch { /* the viewer has ended; the page stays as it is */ }
      timer = setTimeout(look, PACE);
    };
    document.addEventListener("visibilitychange", look);
    timer = setTimeout(look, PACE);
  };

  // The list of rollouts: a window of rows in a box as high as all of them. Its state is the query of the address.
  const startList = () => {
    const list = document.getElementById("list");
    if (!list) return;
    const rows = document.getElementById("rows"), form = document.getElementById("filter");
    const total = document.getElementById("total"), unit = document.getElementById("unit");
    const nothing = document.getElementById("nothing"), progress = document.getElementById("progress");
    const highest = 8e6; // pixels; browsers lay out no more than some tens of millions
    const wrong = document.getElementById("wrong"), damage = document.getElementById("damage");
    let count = Number(list.dataset.total), search = list.dataset.search, asked = 0, waiting = 0;
    let coming = null; // the rows that are being loaded
    let shown = { start: Number(list.dataset.start), end: Number(list.dataset.start) + rows.children.length };
    const rowHeight = () => (rows.firstElementChild ? rows.firstElementChild.getBoundingClientRect().height : 62);
    const height = () => Math.min(highest, count * rowHeight());
    const query = () => {
      const pairs = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (value !== "") pairs.append(name, value);
      return pairs;
    };
    const range = () => { // the first row in view, and how many fit
      const each = rowHeight(), seen = Math.max(0, scrollY - list.offsetTop);
      const room = Math.max(1, height() - innerHeight), scale = Math.max(1, (count * each - innerHeight) / room);
      return { first: Math.min(Math.max(0, count - 1), Math.floor((seen * scale) / each)), fits: Math.min(78, Math.ceil(innerHeight / each)), scale, seen, each };
    };
    const place = () => {
      rows.classList.toggle("placed", count > 0);
      list.style.height = count ? `${height()}px` : "";
      const { scale, seen, each } = range();
      const top = scale === 1 ? shown.start * each : Math.min(seen + (shown.start - (seen * scale) / each) * each, height() - rows.offsetHeight);
      rows.style.transform = count ? `translateY(${Math.max(0, top)}px)` : "";
      nothing.hidden = count > 0;
    };
    const say = (what) => { wrong.textContent = what; wrong.hidden = !what; };
    // Says whether its rows are shown; they are not if others were asked for meanwhile.
    const load = async (start, many, key) => {
      const mine = ++asked, pairs = query();
      pairs.set("start", start); pairs.set("count", many);
      if (key) pairs.set("search", key);
      coming = { start, end: start + many };
      let found = null, refused = "";
      try {
        const answer = await fetch(`${list.dataset.url}?${pairs}`);
        if (answer.ok) found = await answer.json();
        else refused = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".fault")?.textContent ?? `error ${answer.status}`;
      } catch { /* the viewer has ended; the list stays as it is */ }
      if (mine !== asked) return false;
      coming = null;
      if (refused) say(refused.trim());
      if (!found) return false;
      say("");
      const focused = document.activeElement && rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      rows.innerHTML = found.html;
      if (focused) { const again = [...rows.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused); if (again) again.focus({ preventScroll: true }); }
      search = found.search; count = found.total;
      shown = { start: found.start, end: found.end };
      total.textContent = count.toLocaleString("en");
      unit.textContent = pairs.get("by") === "response" ? "responses" : "groups";
      list.dataset.loaded = mine;
      look(); // the view may have moved since
      return true;
    };
    const covers = (some, first, last) => some && first >= some.start && last <= some.end;
    const look = () => {
      place();
      const { first, fits } = range(), last = Math.min(count, first + fits);
      if (!count || covers(coming ?? shown, first, last)) return;
      load(Math.max(0, first - fits), 3 * fits + 4, search);
    };
    const filter = () => {
      clearTimeout(waiting);
      const bad = [...form.elements].find((one) => !one.validity.valid);
      if (bad) { say(`${bad.getAttribute("aria-label") || bad.name}: ${bad.validationMessage}`); return; }
      const pairs = query().toString();
      history.replaceState(null, "", pairs ? `?${pairs}` : location.pathname);
      if (scrollY > list.offsetTop) scrollTo(0, list.offsetTop - 120);
      search = ""; // its rows are those of the filter before
      load(0, 2 * range().fits + 4, "");
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
    form.addEventListener("change", filter);
    form.addEventListener("input", (event) => {
      if (event.target.type !== "search" && event.target.type !== "number") return;
      clearTimeout(waiting);
      waiting = setTimeout(filter, 120);
    });
    let frame = 0;
    addEventListener("scroll", () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(look); }, { passive: true });
    addEventListener("resize", look);
    rows.addEventListener("keydown", (event) => {
      const link = event.target.closest("a"), step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
      if (!link || !step) return;
      const next = step > 0 ? link.parentElement.nextElementSibling : link.parentElement.previousElementSibling;
      if (next) { event.preventDefault(); next.firstElementChild.focus(); }
    });
    // What the index can be filtered by, and what of it is damaged, as the page says it now.
    const renew = async () => {
      const fresh = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      for (const name of ["task", "source", "stage"]) {
        const old = form.elements[name], now = fresh.querySelector(`#filter [name="${name}"]`), was = old.value;
        if (!now || now.textContent === old.textContent) continue;
        old.innerHTML = now.innerHTML;
        old.value = was;
        if (old.value !== was) old.add(new Option(`${was} (0)`, was, true, true));
      }
      for (const name of ["first", "last", "low", "high"]) form.elements[name].placeholder = fresh.querySelector(`#filter [name="${name}"]`)?.placeholder ?? "";
      const open = damage.querySelector("details")?.open;
      damage.innerHTML = fresh.getElementById("damage")?.innerHTML ?? "";
      if (open && damage.firstElementChild) damage.firstElementChild.open = true;
      if (!count) nothing.textContent = fresh.getElementById("nothing")?.textContent ?? "";
    };
    let next = 0;
    const poll = async () => {
      clearTimeout(next);
      if (document.hidden) return; // it goes on when the tab is shown again
      let pause = 10000; // the viewer has ended; the list stays as it is
      try {
        const now = await (await fetch(progress.dataset.url)).json();
        progress.hidden = now.done;
        progress.querySelector("progress").max = now.files;
        progress.querySelector("progress").value = now.read;
        progress.querySelector("span").textContent = `${now.read} of ${now.files} files are indexed; the rest follows`;
        document.getElementById("known").textContent = `${now.groups.toLocaleString("en")} groups and ${now.rollouts.toLocaleString("en")} rollouts`;
        const { first, fits } = range();
        // Rows that somebody waits for come first, and the number is noted only once its rows are shown.
        if (String(now.generation) !== progress.dataset.generation && !coming && await load(Math.max(0, first - fits), 3 * fits + 4, "")) {
          await renew();
          progress.dataset.generation = now.generation;
        }
        pause = now.done ? 4000 : 1000;
      } catch { /* asked again after the pause */ }
      clearTimeout(next);
      next = setTimeout(poll, pause);
    };
    document.addEventListener("visibilitychange", poll);
    place();
    look();
    next = setTimeout(poll, progress.hidden ? 4000 : 600);
  };

  // The page of a group: large frames, and j and k for the groups beside it.
  const startGroup = () => {
    const large = document.getElementById("large");
    if (!large) return;
    for (const shot of document.querySelectorAll(".shot")) {
      shot.addEventListener("click", () => {
        const picture = shot.querySelector(".picture").cloneNode(true), image = picture.querySelector("img");
        image.removeAttribute("loading");
        image.src = shot.dataset.large;
        large.querySelector(".picture").replaceWith(picture);
        large.querySelector("p").textContent = shot.getAttribute("aria-label");
        large.showModal();
      });
    }
    large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
    for (const image of document.querySelectorAll(".shot img")) {
      image.addEventListener("error", () => { image.alt = "this frame cannot be read"; });
    }
    document.addEventListener("keydown", (event) => {
      if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
      const link = { j: "after", ArrowRight: "after", k: "before", ArrowLeft: "before", u: "back" }[event.key];
      if (!link || (event.key.startsWith("Arrow") && event.target.closest(".strip"))) return;
      const target = document.getElementById(link);
      if (target) location.href = target.href;
    });
  };

  document.addEventListener("DOMContentLoaded", () => { startTheme(); startLive(); startList(); startGroup(); });
})();
