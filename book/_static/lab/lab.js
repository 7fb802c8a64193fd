// The lab: a slice that one can paint on, and the network's answer to it, computed in this page by onnxruntime-web.
(async () => {
  const root = document.getElementById("lab");
  if (!root) return;
  const find = (name) => root.querySelector(`[data-lab="${name}"]`);
  const { slices, model, runtime, loader, size, threshold, heads } = window.labData;
  const status = find("status"), image = find("image"), map = find("map"), score = find("score"), bars = find("heads");
  const BLOOD_HU = 62, BRAIN_HU = 33, GRAIN_HU = 4, SHOWN_SHARE = 0.2; // as the book's maps: the highest fifth

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const inflate = (text) =>
    new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

  let hu, brain, truth, answer, untouched, session, waiting;
  const cursor = { row: size >> 1, col: size >> 1, shown: false };

  const say = (text) => { status.textContent = text; };
  const number = (name) => Number(find(name).value);
  const tool = () => root.querySelector("input[name=lab-tool]:checked").value;

  // a fixed grain, so that the same stroke gives the same slice
  const grain = (index) => ((Math.imul(index + 1, 2654435761) >>> 0) / 2 ** 32 - 0.5) * 2 * GRAIN_HU;

  const load = async () => {
    const chosen = slices[find("slice").selectedIndex];
    hu = Float32Array.from(new Int16Array(await inflate(chosen.hu)));
    brain = Float32Array.from(new Uint8Array(await inflate(chosen.brain)));
    truth = new Uint8Array(await inflate(chosen.truth));
    answer = untouched = undefined;
    draw();
    ask();
  };

  const grey = () => {
    const low = number("center") - number("width") / 2, pixels = new Uint8ClampedArray(4 * size * size);
    hu.forEach((value, i) => {
      const level = (255 * (value - low)) / number("width");
      pixels.set([level, level, level, 255], 4 * i);
    });
    return pixels;
  };

  const atEdge = (mask, i) => mask[i] && [1, -1, size, -size].some((step) => !mask[i + step]);

  const show = (canvas, pixels) => canvas.getContext("2d").putImageData(new ImageData(pixels, size, size), 0, 0);

  const draw = () => {
    const left = grey();
    if (find("truth").checked) truth.forEach((_, i) => atEdge(truth, i) && left.set([240, 228, 66, 255], 4 * i));
    show(image, left);
    if (cursor.shown) {
      const pen = image.getContext("2d");
      pen.strokeStyle = tool() === "blood" ? "#D55E00" : "#56B4E9";
      pen.beginPath();
      pen.arc(cursor.col + 0.5, cursor.row + 0.5, number("brush"), 0, 2 * Math.PI);
      pen.stroke();
    }
    const right = grey();
    if (answer) {
      const inside = [...brain.keys()].filter((i) => brain[i]).sort((a, b) => answer.map[b] - answer.map[a]);
      const shown = Math.round(SHOWN_SHARE * inside.length);
      inside.slice(0, shown).forEach((i, rank) => {
        const weight = 0.25 + 0.55 * (1 - rank / shown), base = right[4 * i] * (1 - weight);
        right.set([base + 213 * weight, base + 94 * weight, base, 255], 4 * i);
      });
    }
    show(map, right);
  };

  const report = () => {
    const verdict = answer.score >= threshold ? "predicted to bleed" : "not predicted to bleed";
    score.querySelector("span").style.width = `${100 * answer.score}%`;
    score.classList.toggle("bleeds", answer.score >= threshold);
    say(`Score ${answer.score.toFixed(2)}: ${verdict} (threshold ${threshold.toFixed(2)}).`);
    let from = 0;
    bars.replaceChildren(...heads.map(({ name, count }) => {
      const weights = answer.heads.slice(from, from + count), most = Math.max(...untouched.slice(from, from += count));
      const row = document.createElement("div"), label = document.createElement("span");
      label.textContent = name;
      row.append(label, ...Array.from(weights, (weight, head) => {
        const bar = document.createElement("i");
        bar.style.height = `${Math.min(100, (50 * weight) / most)}%`;
        bar.title = `${name}, head ${head + 1}: ${weight.toPrecision(2)}`;
        return bar;
      }));
      return row;
    }));
    bars.setAttribute("aria-label", `Weights of ${answer.heads.length} heads in ${heads.length} blocks`);
  };

  const ask = () => {
    clearTimeout(waiting);
    if (!session) return;
    say("Computing…");
    waiting = setTimeout(async () => {
      const shape = [1, size, size], begun = performance.now();
      const feeds = { hu: new ort.Tensor("float32", hu, shape), brain: new ort.Tensor("float32", brain, shape) };
      const found = await session.run(feeds);
      answer = { score: Number(found.score.data[0]), map: found.map.data, heads: found.heads.data };
      untouched = untouched || answer.heads;
      root.dataset.seconds = ((performance.now() - begun) / 1000).toFixed(2);
      root.dataset.score = answer.score;
      report();
      draw();
    }, 60);
  };

  const paint = () => {
    const radius = number("brush"), level = tool() === "blood" ? BLOOD_HU : BRAIN_HU;
    for (let row = Math.max(0, cursor.row - radius); row <= Math.min(size - 1, cursor.row + radius); row++)
      for (let col = Math.max(0, cursor.col - radius); col <= Math.min(size - 1, cursor.col + radius); col++) {
        const i = row * size + col;
        if (brain[i] && Math.hypot(row - cursor.row, col - cursor.col) <= radius) hu[i] = level + grain(i);
      }
    draw();
  };

  const follow = (event) => {
    const box = image.getBoundingClientRect(), limit = (value) => Math.min(size - 1, Math.max(0, Math.floor(value)));
    cursor.row = limit(((event.clientY - box.top) / box.height) * size);
    cursor.col = limit(((event.clientX - box.left) / box.width) * size);
    cursor.shown = true;
  };

  let pressed = false;
  image.addEventListener("pointerdown", (event) => {
    image.setPointerCapture(event.pointerId);
    pressed = true;
    follow(event);
    paint();
  });
  image.addEventListener("pointermove", (event) => { follow(event); pressed ? paint() : draw(); });
  image.addEventListener("pointerup", () => { pressed = false; ask(); });
  image.addEventListener("pointerleave", () => { cursor.shown = false; draw(); });
  image.addEventListener("focus", () => { cursor.shown = true; draw(); });
  image.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-3, 0], ArrowDown: [3, 0], ArrowLeft: [0, -3], ArrowRight: [0, 3] }[event.key];
    if (step) {
      cursor.row = Math.min(size - 1, Math.max(0, cursor.row + step[0]));
      cursor.col = Math.min(size - 1, Math.max(0, cursor.col + step[1]));
      draw();
    } else if (event.key === " " || event.key === "Enter") {
      paint();
      ask();
    } else return;
    event.preventDefault();
  });
  for (const name of ["center", "width", "brush", "truth"]) find(name).addEventListener("input", draw);
  find("slice").addEventListener("change", load);
  find("reset").addEventListener("click", load);

  find("slice").replaceChildren(...slices.map(({ name }) => new Option(name)));
  await load();
  say("Loading the network…");
  try {
    ort.env.wasm.numThreads = 1; // a page from disk may not start others
    ort.env.wasm.wasmBinary = await inflate(runtime);
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([loader], { type: "text/javascript" })) };
    session = await ort.InferenceSession.create(await inflate(model), { executionProviders: ["wasm"] });
  } catch (error) {
    say(`The network can't be loaded in this browser (${error.message}). A browser of 2023 or later can.`);
    return;
  }
  ask();
})();
