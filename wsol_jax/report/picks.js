// Chooses the gallery's cards by class and by right and wrong, and orders them.
(() => {
  const form = document.querySelector(".picks");
  if (!form) return;
  const cards = [...document.querySelectorAll(".card, .strip")];
  const place = new Map(cards.map((card, k) => [card, k]));
  const classes = new Map(cards.map((card) => [card, JSON.parse(card.dataset.classes)]));
  const [byClass, byRight, byOrder] = ["class", "right", "order"].map((name) =>
    document.getElementById(`pick-${name}`));

  // Each run's IoU of a card; a segmentation's stands on the card itself.
  function ious(card) {
    const given = [card, ...card.querySelectorAll(".panel")].map((e) => e.dataset.iou);
    return given.filter((text) => text !== undefined && text !== "").map(Number);
  }

  const lowest = (card) => Math.min(...ious(card)); // Infinity where none is known
  const score = (card) => (card.dataset.score === undefined ? NaN : +card.dataset.score);
  const truth = cards.some((card) => card.querySelector(".badge"));
  const scored = cards.some((card) => !isNaN(score(card)));
  const judged = cards.some((card) => card.dataset.right !== undefined);

  const tests = {
    "": () => true,
    right: (card) => card.dataset.right === "1",
    wrong: (card) => card.dataset.right === "0",
    hit: (card) => ious(card).length > 0 && ious(card).every((v) => v >= 0.5),
    miss: (card) => ious(card).some((v) => v < 0.5),
  };
  const last = (value) => (Number.isFinite(value) ? value : Infinity); // what is unknown
  const orders = {
    "": (card) => place.get(card),
    sure: (card) => last(-score(card)),
    unsure: (card) => last(score(card)),
    low: (card) => lowest(card),
    high: (card) => last(-lowest(card)),
  };

  function fill(select, options) {
    for (const [value, text] of options) select.add(new Option(text, value));
    select.parentElement.hidden = options.length < 2;
    select.addEventListener("change", () => apply(select === byOrder));
  }

  function apply(reorder) {
    for (const card of cards) {
      const own = !byClass.value || classes.get(card).includes(byClass.value.slice(1));
      card.hidden = !(own && tests[byRight.value](card));
    }
    const shelves = [...document.querySelectorAll(".shelf")];
    for (const shelf of shelves) {
      shelf.hidden = [...shelf.querySelectorAll(".card, .strip")].every((card) => card.hidden);
    }
    if (reorder) {
      const key = orders[byOrder.value];
      for (const list of document.querySelectorAll(".cards, .strips")) {
        const mine = [...list.children].map((card) => [key(card), place.get(card), card]);
        mine.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] - b[1]));
        list.append(...mine.map(([, , card]) => card));
      }
    }
    const seen = cards.filter((card) => !card.hidden).length;
    const chosen = byClass.value || byRight.value;
    document.getElementById("picked").textContent = chosen ? `${seen} of ${cards.length}` : "";
    document.dispatchEvent(new Event("picked"));
  }

  const names = [...new Set([...classes.values()].flat())];
  names.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  // A mark before each name: a class may have an empty one.
  fill(byClass, [["", "all"], ...(names.length > 1 ? names.map((name) => [`=${name}`, name]) : [])]);
  fill(byRight, [
    ["", "all"],
    ...(judged ? [["right", "class right"], ["wrong", "class wrong"]] : []),
    ...(truth ? [["hit", "IoU ≥ 0.5"], ["miss", "IoU < 0.5"]] : []),
  ]);
  fill(byOrder, [
    ["", "as listed"],
    ...(scored ? [["sure", "highest score first"], ["unsure", "lowest score first"]] : []),
    ...(truth ? [["low", "lowest IoU first"], ["high", "highest IoU first"]] : []),
  ]);
  document.addEventListener("moved", () => {
    if (byRight.value === "hit" || byRight.value === "miss") apply(false);
  });
  form.hidden = [...form.querySelectorAll(".control")].every((control) => control.hidden);
  const controls = form.closest("form");
  controls.addEventListener("submit", (event) => event.preventDefault());
  if (!controls.querySelector("input[data-run]")) controls.hidden = form.hidden;
})();
