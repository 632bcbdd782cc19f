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
    let count = Number(list.dataset.total), search = list.dataset.search, asked = 0, waiting = 0;
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
      return { first: Math.min(Math.max(0, count - 1), Math.floor((seen * scale) / each)), fits: Math.ceil(innerHeight / each), scale, seen, each };
    };
    const place = () => {
      rows.classList.toggle("placed", count > 0);
      list.style.height = count ? `${height()}px` : "";
      const { scale, seen, each } = range();
      const top = scale === 1 ? shown.start * each : Math.min(seen + (shown.start - (seen * scale) / each) * each, height() - rows.offsetHeight);
      rows.style.transform = count ? `translateY(${Math.max(0, top)}px)` : "";
      nothing.hidden = count > 0;
    };
    const load = async (start, many, key) => {
      const mine = ++asked, pairs = query();
      pairs.set("start", start); pairs.set("count", many);
      if (key) pairs.set("search", key);
      const answer = await fetch(`${list.dataset.url}?${pairs}`);
      if (mine !== asked || !answer.ok) return;
      const found = await answer.json();
      if (mine !== asked) return;
      const focused = document.activeElement && rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      rows.innerHTML = found.html;
      if (focused) { const again = [...rows.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused); if (again) again.focus({ preventScroll: true }); }
      search = found.search; count = found.total;
      shown = { start: found.start, end: found.start + rows.children.length };
      total.textContent = count.toLocaleString("en");
      unit.textContent = pairs.get("by") === "response" ? "responses" : "groups";
      place();
      list.dataset.loaded = mine;
    };
    const look = () => {
      place();
      const { first, fits } = range();
      if (!count || (first >= shown.start && Math.min(count, first + fits) <= shown.end)) return;
      load(Math.max(0, first - fits), Math.min(240, 3 * fits + 4), search);
    };
    const filter = () => {
      const pairs = query().toString();
      history.replaceState(null, "", pairs ? `?${pairs}` : location.pathname);
      if (scrollY > list.offsetTop) scrollTo(0, list.offsetTop - 120);
      const { fits } = range();
      load(0, Math.min(240, 2 * fits + 4), "");
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
    const poll = async () => {
      try {
        const now = await (await fetch(progress.dataset.url)).json();
        progress.hidden = now.done;
        progress.querySelector("progress").max = now.files;
        progress.querySelector("progress").value = now.read;
        progress.querySelector("span").textContent = `${now.read} of ${now.files} files are indexed; the rest follows`;
        document.getElementById("known").textContent = `${now.groups.toLocaleString("en")} groups and ${now.rollouts.toLocaleString("en")} rollouts`;
        if (String(now.generation) !== progress.dataset.generation) {
          progress.dataset.generation = now.generation;
          if (!document.hidden) await load(shown.start, Math.max(1, shown.end - shown.start, 2 * range().fits + 4), "");
        }
        setTimeout(poll, now.done ? 4000 : 1000);
      } catch { setTimeout(poll, 10000); } // the viewer has ended; the list stays as it is
    };
    place();
    look();
    setTimeout(poll, progress.hidden ? 4000 : 600);
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
