// Values of charts under the pointer, or under the arrow keys; and filters of lists that are on the page.
"use strict";
(() => {
  const NS = "http://www.w3.org/2000/svg";
  let tip = null;
  const shown = (value) => Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4));
  const hide = () => {
    if (tip) tip.remove();
    tip = null;
    document.querySelectorAll("line.cursor").forEach((one) => one.remove());
  };
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (xs[middle] < x) low = middle; else high = middle; }
    return xs.length && Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
  };
  const show = (svg, step) => {
    const [x0, x1, left, right, , , bottom, top] = JSON.parse(svg.dataset.axes);
    const series = JSON.parse(svg.dataset.series).filter((one) => one[2].length);
    if (!series.length) return;
    const places = series.map((one) => one[2][nearest(one[2], step)]);
    const at = places.reduce((best, one) => Math.abs(one - step) < Math.abs(best - step) ? one : best);
    hide();
    svg.dataset.at = at;
    const line = document.createElementNS(NS, "line");
    const x = left + (right - left) * (at - x0) / (x1 - x0);
    for (const [name, value] of Object.entries({ class: "cursor", x1: x, x2: x, y1: top, y2: bottom })) line.setAttribute(name, value);
    svg.append(line);
    tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    const head = document.createElement("b");
    head.textContent = `step ${at}`;
    tip.append(head);
    series.forEach(([label, colour, xs, ys], n) => {
      if (places[n] !== at && Math.abs(places[n] - at) > (x1 - x0) / 100) return;
      const row = document.createElement("span");
      row.className = `key ${colour}`;
      row.textContent = `${label} ${shown(ys[nearest(xs, at)])}`;
      tip.append(row);
    });
    document.body.append(tip);
    const box = svg.getBoundingClientRect();
    const px = box.left + box.width * x / svg.viewBox.baseVal.width;
    const wide = tip.offsetWidth;
    const beside = px + wide + 20 > innerWidth ? px - wide - 12 : px + 12;
    tip.style.left = `${Math.max(4, Math.min(innerWidth - wide - 4, beside))}px`;
    tip.style.top = `${Math.max(4, box.top + 18)}px`;
  };
  const stepAt = (svg, clientX) => {
    const [x0, x1, left, right] = JSON.parse(svg.dataset.axes);
    const box = svg.getBoundingClientRect();
    const x = (clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    return x0 + (x1 - x0) * (x - left) / (right - left);
  };
  document.addEventListener("pointermove", (event) => {
    const svg = event.target.closest && event.target.closest("svg[data-axes]");
    if (svg) show(svg, stepAt(svg, event.clientX)); else hide();
  });
  document.addEventListener("pointerleave", hide);
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => {
    const svg = document.activeElement && document.activeElement.closest("svg[data-axes]");
    if (!svg) return;
    if (event.key === "Escape") { hide(); return; }
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (!by) return;
    event.preventDefault();
    const series = JSON.parse(svg.dataset.series).filter((one) => one[2].length);
    const steps = [...new Set(series.flatMap((one) => one[2]))].sort((a, b) => a - b);
    const now = "at" in svg.dataset ? nearest(steps, +svg.dataset.at) : by > 0 ? -by : steps.length - 1 - by;
    show(svg, steps[Math.max(0, Math.min(steps.length - 1, now + by))]);
  });
  document.addEventListener("focusout", hide);

  const start = () => {
    for (const svg of document.querySelectorAll("svg[data-axes]")) svg.setAttribute("tabindex", "0");
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth && !box.querySelector("a, button, input")) box.setAttribute("tabindex", "0");
    }
    for (const field of document.querySelectorAll("input[data-filter]")) {
      const rows = () => document.querySelectorAll(field.dataset.filter);
      const filter = () => {
        const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
        let left = 0;
        for (const row of rows()) {
          const text = (row.dataset.text || row.textContent).toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          left += !row.hidden;
        }
        const count = document.getElementById(field.dataset.count);
        if (count) count.textContent = `${left} of ${rows().length}`;
      };
      if (!field.dataset.bound) field.addEventListener("input", filter);
      field.dataset.bound = "1";
      if (field.value) filter();
    }
  };
  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("viewer:changed", start);
})();
