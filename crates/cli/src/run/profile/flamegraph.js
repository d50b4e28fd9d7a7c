// A click on a frame shows it and what it called in the whole width; a click on the lowest frame shows all again. A click on
// "search" asks for a text, and colours the frames whose names contain it.
(() => {
  const root = document.documentElement;
  const frames = [...root.querySelectorAll("svg.f")];
  const found = root.querySelector("#found");
  const width = root.viewBox.baseVal.width;
  const samples = frames.map((frame) => ["x", "n", "d"].map((key) => Number(frame.dataset[key])));
  const zoom = (to) => {
    const [x, n, d] = samples[to];
    frames.forEach((frame, index) => {
      const [fx, fn, fd] = samples[index];
      const around = fd < d && fx <= x && fx + fn >= x + n;
      const within = fd >= d && fx >= x && fx + fn <= x + n;
      frame.style.display = around || within ? "" : "none";
      frame.setAttribute("x", around ? 0 : ((fx - x) / n) * width);
      frame.setAttribute("width", around ? width : (fn / n) * width);
      frame.style.opacity = around ? 0.5 : "";
    });
  };
  const search = () => {
    const text = prompt("Frames whose names contain:", "");
    if (text === null) return;
    let [covered, end] = [0, 0];
    frames.forEach((frame, index) => {
      const matches = text !== "" && frame.querySelector("text").textContent.includes(text);
      frame.classList.toggle("match", matches);
      const [x, n] = samples[index];
      // The frames are in the order of calls: what a match called is counted with it.
      if (matches && x >= end) [covered, end] = [covered + n, x + n];
    });
    const share = samples.length > 0 ? (100 * covered) / samples[0][1] : 0;
    found.textContent = text === "" ? "search" : `search: ${share.toFixed(1)} % in "${text}"`;
  };
  frames.forEach((frame, index) => frame.addEventListener("click", () => zoom(index)));
  found.addEventListener("click", search);
  // The lowest frames are where reading begins.
  scrollTo(0, root.height.baseVal.value);
})();
