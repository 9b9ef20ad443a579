// Orders class tables by a click on a heading, and saves figures as files.
(() => {
  function sortable(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const value = (row, k) => {
      const text = row.cells[k].textContent;
      if (isName(row.cells[k])) return text;
      return parseFloat(text.replace("\u2212", "-").replaceAll(",", "")); // NaN for a dash
    };
    const isName = (cell) => cell.tagName === "TH" || cell.classList.contains("name");
    heads.forEach((head, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const body = table.tBodies[0];
        const named = isName(body.rows[0].cells[k]);
        const before = head.getAttribute("aria-sort");
        // Names begin with A, figures with the highest.
        const up = before ? before === "descending" : named;
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [value(row, k), row]);
        rows.sort(([a], [b]) => {
          if (named) return (up ? 1 : -1) * a.localeCompare(b, undefined, { numeric: true });
          if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // dashes last, always
          return up ? a - b : b - a;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  let files = null;

  async function unpacked() {
    files ??= JSON.parse(new TextDecoder().decode(await page.inflate(page.data.files)));
    return files;
  }

  function csv({ columns, rows }) {
    const cell = (value) => {
      // A spreadsheet would run a name that looks like a formula.
      const text = value === null ? "" : String(value).replace(/^[=+@]/, "'$&");
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [columns, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
  }

  function json({ columns, rows }) {
    const entry = (row) => Object.fromEntries(columns.map((name, k) => [name, row[k]]));
    return JSON.stringify(rows.map(entry), null, 1) + "\n";
  }

  async function save(button) {
    const { save: kind, as: form } = button.dataset;
    const table = (await unpacked())[kind];
    const text = form === "csv" ? csv(table) : json(table);
    const type = form === "csv" ? "text/csv;charset=utf-8" : "application/json";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    const title = document.title.replace(/[^\p{L}\p{N}]+/gu, "_").slice(0, 60);
    link.download = `${title}_${kind}.${form}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
  for (const line of document.querySelectorAll(".saves")) line.hidden = false;
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button));
  }
})();
