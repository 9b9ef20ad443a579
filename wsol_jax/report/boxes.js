// Moves the boxes to the slider's threshold. The box is the localization community's: foreground
// is every pixel whose 8-bit score is above floor(tau * maximum); of the 8-connected components the
// one whose contour encloses most; [x, y, min(x + w, W - 1), min(y + h, H - 1)].
(() => {
  const data = page.data;
  const panels = [...document.querySelectorAll(".panel")];
  const sliders = [...document.querySelectorAll("input[data-run]")];
  const heat = document.getElementById("heat");
  const taus = data.thresholds.slice(); // exact, where the slider shows steps of 0.01

  // The eight neighbours clockwise from the west, y downwards.
  const DX = [-1, -1, 0, 1, 1, 1, 0, -1];
  const DY = [0, -1, -1, -1, 0, 1, 1, 1];

  async function unpack() {
    const bytes = await page.inflate(data.packed);
    let start = 0;
    return data.sizes.map(([w, h]) => {
      const pixels = bytes.slice(start, (start += w * h)); // wraps at 256, as the packer did
      for (let i = 0; i < w * h; i++) if (i % w) pixels[i] += pixels[i - 1];
      for (let i = w; i < w * h; i++) pixels[i] += pixels[i - w];
      let max = 0;
      for (const v of pixels) if (v > max) max = v;
      return { w, h, max, pixels, seen: new Uint8Array(w * h), stack: new Int32Array(w * h) };
    });
  }

  // Area of the polygon through the border pixels' centres (Suzuki's border following), from the
  // component's first pixel in reading order; "inside" tells foreground.
  function contourArea(map, level, first) {
    const { w, h, pixels } = map;
    const x0 = first % w, y0 = (first / w) | 0;
    const inside = (x, y) => x >= 0 && y >= 0 && x < w && y < h && pixels[y * w + x] > level;
    let d = 0; // west of the first pixel is background
    while (d < 8 && !inside(x0 + DX[d], y0 + DY[d])) d++;
    if (d === 8) return 0;
    const endX = x0 + DX[d], endY = y0 + DY[d];
    let x = x0, y = y0, twice = 0;
    for (;;) {
      let k = d;
      do k = (k + 7) & 7; while (!inside(x + DX[k], y + DY[k]));
      const nx = x + DX[k], ny = y + DY[k];
      twice += x * ny - nx * y;
      if (nx === x0 && ny === y0 && x === endX && y === endY) return Math.abs(twice) / 2;
      x = nx; y = ny;
      d = (k + 4) & 7; // back to where we came from
    }
  }

  function largestBox(map, tau) {
    const { w, h, pixels, seen, stack } = map;
    const level = Math.floor(tau * map.max);
    let box = [0, 0, 0, 0], best = -1;
    seen.fill(0);
    for (let first = 0; first < w * h; first++) {
      if (seen[first] || pixels[first] <= level) continue;
      let left = w, right = 0, top = h, bottom = 0, count = 0;
      stack[count++] = first;
      seen[first] = 1;
      while (count) {
        const i = stack[--count], x = i % w, y = (i / w) | 0;
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
        for (let k = 0; k < 8; k++) {
          const nx = x + DX[k], ny = y + DY[k];
          if (nx < 0 || ny < 0 || nx >= w || ny >= h) continue;
          const j = ny * w + nx;
          if (!seen[j] && pixels[j] > level) { seen[j] = 1; stack[count++] = j; }
        }
      }
      // A polygon through the centres cannot enclose more than this.
      if ((right - left) * (bottom - top) < best) continue;
      const area = contourArea(map, level, first);
      if (area >= best) { // OpenCV lists contours from the bottom, and the first of equals wins
        best = area;
        box = [left, top, Math.min(right + 1, w - 1), Math.min(bottom + 1, h - 1)];
      }
    }
    return box;
  }

  // Pixels count inclusively; truth is truncated into the map's frame (with room for rounding).
  function iou(a, truth, w, h) {
    const b = truth.map((v, i) => Math.floor(v * (i % 2 ? h : w) + 5e-5));
    const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + 1;
    const tall = Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + 1;
    const both = Math.max(wide, 0) * Math.max(tall, 0);
    const area = (c) => (c[2] - c[0] + 1) * (c[3] - c[1] + 1);
    return both / (area(a) + area(b) - both);
  }

  function move(maps, run) {
    const tau = taus[run];
    document.getElementById(`tau-${run}-value`).textContent = String(+tau.toFixed(3));
    const found = new Map();
    for (const panel of panels) {
      if (+panel.dataset.run !== run) continue;
      const map = maps[+panel.dataset.map];
      if (!found.has(map)) found.set(map, largestBox(map, tau));
      const box = found.get(map);
      panel.dataset.box = box.join(" ");
      for (const rect of panel.querySelectorAll("rect.ours")) {
        rect.setAttribute("x", box[0] / map.w);
        rect.setAttribute("y", box[1] / map.h);
        rect.setAttribute("width", (box[2] - box[0]) / map.w);
        rect.setAttribute("height", (box[3] - box[1]) / map.h);
      }
      const truths = panel.dataset.truth.split(";").filter(Boolean);
      const best = Math.max(...truths.map((t) => iou(box, t.split(" ").map(Number), map.w, map.h)));
      const badge = panel.querySelector(".badge");
      if (badge) { // where the truth is known
        badge.textContent = `IoU ${best.toFixed(2)}`;
        badge.classList.toggle("hit", best >= 0.5);
      }
      panel.dataset.iou = truths.length ? best.toFixed(4) : "";
    }
    document.dispatchEvent(new Event("moved")); // the cards that are in sight may change
    count(run);
    for (const code of run ? [] : document.querySelectorAll("[data-command]")) {
      code.textContent = code.dataset.command.replaceAll("{threshold}", String(+tau.toFixed(3)));
    }
  }

  // How many boxes are right, of the cards in sight: shelf by shelf, and beside the slider those
  // of the shelves that stand for their list.
  function count(run) {
    const told = (panels) => {
      const known = panels.filter((p) => p.dataset.iou !== "");
      return [known.filter((p) => +p.dataset.iou >= 0.5).length, known.length];
    };
    const mine = panels.filter((p) => +p.dataset.run === run && page.isShown(p));
    for (const label of document.querySelectorAll(`[data-count-run="${run}"]`)) {
      const shelf = label.closest(".shelf");
      label.querySelector("b").textContent = told(mine.filter((p) => shelf.contains(p))).join(" of ");
    }
    const shelfOf = (panel) => panel.closest(".shelf");
    const fair = mine.filter((p) => shelfOf(p).dataset.share);
    const word = fair.some((p) => shelfOf(p).dataset.share === "drawn") ? "drawn" : "shown";
    const [hits, known] = told([...new Map(fair.map((p) => [p.dataset.map, p])).values()]);
    document.getElementById(`share-${run}`).textContent = known
      ? `${hits} of ${known} ${word} (${Math.round((100 * hits) / known)} %)`
      : "";
  }

  async function start() {
    if (!sliders.length) return;
    const form = document.querySelector(".controls");
    heat.addEventListener("input", () => {
      document.documentElement.style.setProperty("--heat", heat.value / 100);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    const maps = await unpack();
    const fragment = () => {
      const wanted = /(?:^#|&)tau=([0-9.]+)/.exec(location.hash);
      if (wanted && +wanted[1] >= 0 && +wanted[1] < 1) {
        taus.fill(+wanted[1]);
        for (const slider of sliders) slider.value = wanted[1];
      }
      taus.forEach((_, run) => move(maps, run));
    };
    for (const slider of sliders) {
      const run = +slider.dataset.run;
      slider.addEventListener("input", () => { taus[run] = +slider.value; move(maps, run); });
    }
    for (const button of document.querySelectorAll("button[data-reset]")) {
      const run = +button.dataset.reset;
      button.addEventListener("click", () => {
        taus[run] = data.thresholds[run];
        sliders[run].value = taus[run];
        move(maps, run);
      });
    }
    document.addEventListener("picked", () => taus.forEach((_, run) => count(run)));
    window.addEventListener("hashchange", fragment);
    fragment();
    form.hidden = false; // only now do the sliders do what they say
  }
  start();
})();
