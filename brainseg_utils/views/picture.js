// A picture that the kernel draws, with pointer and keyboard. The kernel sends PNG bytes; this sends what was done to
// them. At most one pointer position is under way at a time, so that a drag cannot outrun the kernel.
const KEYS = new Set([
  "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End",
  "a", "c", "s", "3", "o", "b", "x", "t", "p", "+", "-",
]);

function render({ model, el }) {
  const picture = document.createElement("img");
  picture.className = "brainseg-picture";
  picture.tabIndex = 0;
  picture.draggable = false;
  picture.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own keys rest while the picture has focus

  let shown = null;
  let turn = 0;
  let waiting = false;
  let latest = null;

  async function draw() {
    const mine = ++turn;
    const bytes = model.get("png");
    picture.alt = model.get("alt");
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    const next = new Image();
    next.src = url;
    try {
      await next.decode(); // swapped only when it is ready: no flicker
    } catch {
      URL.revokeObjectURL(url);
      return;
    }
    if (mine !== turn) { // a newer picture came meanwhile
      URL.revokeObjectURL(url);
      return;
    }
    picture.src = url;
    // an img that is attached empty, in a cell that the page skips because it is out of sight, never gets a size
    if (!picture.isConnected) el.appendChild(picture);
    picture.dataset.drawn = String(Number(picture.dataset.drawn || 0) + 1);
    if (shown) URL.revokeObjectURL(shown);
    shown = url;
    waiting = false;
    if (latest) send(latest);
  }

  function send(place) {
    if (waiting) {
      latest = place;
      return;
    }
    latest = null;
    waiting = true;
    model.send({ kind: "point", row: place.row, column: place.column });
    setTimeout(() => { waiting = false; }, 500); // a click beside the panels draws nothing
  }

  function place(event) {
    const box = picture.getBoundingClientRect();
    return {
      row: ((event.clientY - box.top) / box.height) * picture.naturalHeight,
      column: ((event.clientX - box.left) / box.width) * picture.naturalWidth,
    };
  }

  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    picture.focus({ preventScroll: true });
    picture.setPointerCapture(event.pointerId);
    send(place(event));
    event.preventDefault();
  });
  picture.addEventListener("pointermove", (event) => {
    if (picture.hasPointerCapture(event.pointerId)) send(place(event));
  });
  picture.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS.has(event.key)) return;
    model.send({ kind: "key", key: event.key });
    event.preventDefault();
    event.stopPropagation();
  });

  model.on("change:png", draw);
  draw();
  return () => {
    model.off("change:png", draw);
    if (shown) URL.revokeObjectURL(shown);
  };
}

export default { render };
