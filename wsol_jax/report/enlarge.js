// Shows a picture large in a dialog: by click, Enter or Space; arrows lead to the next one in sight.
(() => {
  const dialog = document.getElementById("large");
  const every = [...document.querySelectorAll(".card .stage, .part figure img")];
  if (!dialog.showModal || !every.length) return;
  let current = null;

  // In the order in which the cards stand now.
  function inSight() {
    return [...document.querySelectorAll(".enlarges")].filter(page.isShown);
  }

  function words(picture) {
    const card = picture.closest(".card, .strip");
    const kind = picture.closest("figure")?.querySelector("figcaption").textContent;
    if (!card) return kind;
    const panel = picture.closest(".panel");
    const parts = [
      card.querySelector("h4").textContent,
      panel?.querySelector(".run")?.textContent,
      kind ?? [...(panel?.querySelectorAll(".badge, .said") ?? [])].map((e) => e.textContent).join("  "),
      card.querySelector("code").textContent,
    ];
    return parts.map((text) => text?.trim()).filter(Boolean).join("  ·  ");
  }

  function show(picture) {
    const copy = picture.cloneNode(true);
    copy.classList.remove("enlarges");
    for (const name of ["tabindex", "role", "aria-label"]) copy.removeAttribute(name);
    const { width, height } = picture.getBoundingClientRect();
    copy.style.setProperty("--ar", height ? width / height : 1);
    dialog.querySelector(".large-picture").replaceChildren(copy);
    dialog.querySelector(".large-words").textContent = words(picture);
    const all = inSight();
    const at = all.indexOf(picture) + 1;
    document.getElementById("large-place").textContent = `${at} of ${all.length}`;
    current = picture;
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const all = inSight();
    show(all[(all.indexOf(current) + by + all.length) % all.length]);
  }

  for (const picture of every) {
    const name = (picture.querySelector(".photo") ?? picture).alt || words(picture);
    picture.classList.add("enlarges");
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.setAttribute("aria-label", `Enlarge: ${name}`);
    picture.addEventListener("click", () => show(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      show(picture);
    });
  }
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  dialog.addEventListener("click", (event) => {
    const by = event.target.closest("[data-step]")?.dataset.step;
    if (event.target === dialog || by === "0") dialog.close(); // beside it is its backdrop
    else if (by) step(+by);
  });
  // The browser gives the focus back to where the dialog was opened; the reader has gone on.
  dialog.addEventListener("close", () => current?.focus());
})();
