"use strict";
// What the page's other scripts share: its data, and how packed bytes are read.
const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  async function inflate(text) {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // A card is out of sight where the reader chose others.
  const isShown = (element) => !element.closest("[hidden]");

  return { data, inflate, isShown };
})();
