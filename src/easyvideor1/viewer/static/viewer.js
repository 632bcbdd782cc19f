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

  // <main data-version="..." data-version-url="..."> or any element: when the address answers with another version, the
  // page is fetched again and every [data-live][id] gets its new content. Focus and scrolling stay.
  const startLive = () => {
    const watched = document.querySelector("[data-version-url]");
    if (!watched) return;
    let version = watched.dataset.version;
    const look = async () => {
      if (!document.hidden) {
        try {
          const now = (await (await fetch(watched.dataset.versionUrl)).json()).version;
          if (now !== version) {
            const fresh = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
            for (const old of document.querySelectorAll("[data-live][id]")) {
              const changed = fresh.getElementById(old.id);
              if (changed && changed.innerHTML !== old.innerHTML) {
                const open = [...old.querySelectorAll("details")].map((one) => one.open);
                old.innerHTML = changed.innerHTML;
                old.querySelectorAll("details").forEach((one, at) => { if (open[at]) one.open = true; });
              }
            }
            version = now;
            document.dispatchEvent(new CustomEvent("viewer:changed"));
          }
        } catch { /* the viewer has ended; the page stays as it is */ }
      }
      setTimeout(look, 3000);
    };
    setTimeout(look, 3000);
  };

  document.addEventListener("DOMContentLoaded", () => { startTheme(); startLive(); });
})();
