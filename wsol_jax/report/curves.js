// Tells a chart's values where the pointer is, or where the arrow keys lead.
(() => {
  const numbers = (text) => text.split(" ").map(Number);

  function read(svg) {
    const [left, right, top, bottom] = numbers(svg.dataset.frame);
    const [x0, x1] = numbers(svg.dataset.x);
    const [y0, y1] = numbers(svg.dataset.y);
    const series = [...svg.querySelectorAll("polyline[data-points]")].map((line) => ({
      name: line.dataset.name,
      colour: line.getAttribute("class"),
      points: line.dataset.points.split(" ").map((p) => p.split(",").map(Number))
        .sort((a, b) => a[0] - b[0]),
    }));
    return {
      series,
      grid: +svg.dataset.grid || 0,
      toX: (v) => left + ((v - x0) / (x1 - x0)) * (right - left),
      toY: (v) => bottom - ((v - y0) / (y1 - y0)) * (bottom - top),
      fromX: (px) => x0 + ((px - left) / (right - left)) * (x1 - x0),
      top, bottom, x0, x1,
    };
  }

  // A line's value there; between two of its points on the straight line that is drawn.
  function valueAt(points, x) {
    const next = points.findIndex((p) => p[0] >= x);
    if (next < 0 || (next === 0 && points[0][0] > x)) return null;
    const [bx, by] = points[next];
    if (bx === x || next === 0) return by;
    const [ax, ay] = points[next - 1];
    return ay + ((x - ax) / (bx - ax)) * (by - ay);
  }

  const plain = (v) => (Math.abs(v) < 1000 ? String(+v.toPrecision(3)) : Math.round(v).toLocaleString("en"));
  const percent = (v) => `${(100 * v).toFixed(1)} %`;

  function listen(svg) {
    const chart = read(svg);
    if (!chart.series.length) return;
    const write = "percent" in svg.dataset ? percent : plain;
    const stops = [...new Set(chart.series.flatMap((s) => s.points.map((p) => p[0])))];
    stops.sort((a, b) => a - b);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    tip.hidden = true;
    svg.after(tip);
    const mark = document.createElementNS(svg.namespaceURI, "g");
    mark.setAttribute("class", "reading");
    svg.append(mark);
    let at = null;

    function row(colour, name, value) {
      const line = document.createElement("p");
      if (colour) line.append(Object.assign(document.createElement("i"), { className: colour }));
      line.append(`${name} `, Object.assign(document.createElement("b"), { textContent: value }));
      return line;
    }

    function element(name, given) {
      const made = document.createElementNS(svg.namespaceURI, name);
      for (const key in given) made.setAttribute(key, given[key]);
      return made;
    }

    function show(wanted) {
      const near = (a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
      at = chart.grid ? Math.round(wanted / chart.grid) * chart.grid : stops.reduce(near);
      at = Math.min(Math.max(at, chart.grid ? chart.x0 : stops[0]), chart.grid ? chart.x1 : Infinity);
      const x = chart.toX(at);
      const known = chart.series.map((s) => [s, valueAt(s.points, at)]).filter(([, v]) => v !== null);
      mark.replaceChildren(
        element("line", { x1: x, x2: x, y1: chart.top, y2: chart.bottom }),
        ...known.map(([s, v]) => element("circle", { class: s.colour, cx: x, cy: chart.toY(v), r: 3.4 })),
      );
      tip.replaceChildren(
        row("", svg.dataset.across, chart.grid ? String(+at.toFixed(3)) : plain(at)),
        ...known.map(([s, v]) => row(s.colour, s.name, write(v))),
      );
      tip.hidden = false;
      const box = svg.getBoundingClientRect();
      const scale = box.width / svg.viewBox.baseVal.width;
      const outer = svg.parentElement.getBoundingClientRect();
      const right = x > svg.viewBox.baseVal.width / 2;
      const px = box.left - outer.left + x * scale;
      tip.style.left = right ? "auto" : `${px + 12}px`;
      tip.style.right = right ? `${outer.width - px + 12}px` : "auto";
      tip.style.top = `${box.top - outer.top + chart.top * scale}px`;
    }

    function hide() {
      tip.hidden = true;
      mark.replaceChildren();
      at = null;
    }

    svg.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY);
      show(chart.fromX(point.matrixTransform(svg.getScreenCTM().inverse()).x));
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.tabIndex = 0;
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      if (at === null) show(by > 0 ? stops[0] : stops[stops.length - 1]);
      else if (chart.grid) show(at + 10 * by * chart.grid);
      else show(stops[Math.min(Math.max(stops.indexOf(at) + by, 0), stops.length - 1)]);
    });
  }

  document.querySelectorAll(".chart svg[data-frame]").forEach(listen);
})();
