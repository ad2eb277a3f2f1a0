"use strict";
(() => {
  const data = JSON.parse(document.getElementById("film-data").textContent);
  const canvas = document.getElementById("film-canvas"), age = document.getElementById("film-age");
  const layers = ["truth", "reading", "scene"].map((name) => document.getElementById("film-" + name));
  const COLOURS = ["#fafaf9", "#f59e0b", "#2dd4bf"], DASHES = [[3, 3], [], []], WIDE = [1.5, 1.5, 2.5];
  const pictures = data.pictures.map((text) => {
    const image = new Image();
    image.src = text;
    return image;
  });
  const [width, height] = data.size;
  const draw = ([, place, truth, reading, old, scene]) => {
    const scale = window.devicePixelRatio || 1, wide = canvas.clientWidth, high = wide * height / width;
    canvas.style.height = high + "px";
    canvas.width = wide * scale;
    canvas.height = high * scale;
    const pen = canvas.getContext("2d"), unit = wide / width;
    pen.scale(scale, scale);
    pen.font = "11px system-ui, sans-serif";
    const picture = pictures[place];
    if (picture.complete) pen.drawImage(picture, 0, 0, wide, high);
    else picture.addEventListener("load", () => again(), { once: true });
    pen.fillStyle = "rgba(28, 25, 23, 0.35)";
    pen.fillRect(0, 0, wide, high);
    [truth, reading, scene].forEach((boxes, layer) => {
      if (!layers[layer].checked) return;
      pen.strokeStyle = pen.fillStyle = COLOURS[layer];
      pen.setLineDash(DASHES[layer]);
      pen.lineWidth = WIDE[layer];
      boxes.forEach(([left, top, right, bottom, name]) => {
        pen.strokeRect(left * unit, top * unit, (right - left) * unit, (bottom - top) * unit);
        if (layer === 2 && (right - left) * unit > 24) pen.fillText(name, left * unit + 2, Math.max(10, top * unit - 4));
      });
    });
    age.textContent = old === null ? "no reading yet" : "newest reading " + old + " ms old";
  };
  let again = () => {};
  const full = Math.max(...data.instants.map((row) => row[5].length));
  again = player("film", data.instants, draw, data.instants.findIndex((row) => row[5].length === full));
  layers.forEach((layer) => layer.addEventListener("change", again));
})();
