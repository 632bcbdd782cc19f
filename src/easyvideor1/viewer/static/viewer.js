// Works without a framework and without a build. Every page is complete without it, and better with it.
"use strict";
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const store = (value) => { try { localStorage.setItem("theme", value); } catch { /* private mode: for this page */ } };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();

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

  document.addEventListener("DOMContentLoaded", () => { startTheme(); startLive(); });
})();
