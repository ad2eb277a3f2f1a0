"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [canvas, told, where, legend] = ["canvas", "told", "where", "legend"].map((id) => document.getElementById(id));
  const rows = data.rows, HEIGHT = 7, SHOWN = 70;
  let first = 0;
  data.blocks.forEach((name, index) => {
    const mark = document.createElement("span");
    mark.className = "key";
    mark.style.setProperty("--c", data.colours[index]);
    mark.textContent = name.replace("_", " ");
    legend.append(mark, " ");
  });
  const latest = rows.reduce((most, row) => row[2].reduce((a, b) => Math.max(a, b), most), 300);
  const limit = Math.min(1500, Math.max(300, latest * 1.03));
  const draw = () => {
    const wide = canvas.clientWidth, shown = Math.min(SHOWN, rows.length), high = shown * HEIGHT + 22;
    const scale = window.devicePixelRatio || 1;
    canvas.style.height = high + "px";
    canvas.width = wide * scale;
    canvas.height = high * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.font = "11px system-ui, sans-serif";
    const x = (ms) => 44 + (wide - 52) * Math.min(ms, limit) / limit;
    const step = limit > 900 ? 250 : 100;
    for (let ms = 0; ms <= limit; ms += step) {
      pen.fillStyle = "#e7e5e4";
      pen.fillRect(x(ms), 0, 1, high - 18);
      pen.fillStyle = "#57534e";
      pen.fillText(ms + " ms", x(ms) - (ms ? 14 : 0), high - 5);
    }
    for (let place = 0; place < shown; place += 1) {
      const row = rows[first + place];
      if (!row) break;
      const y = place * HEIGHT + HEIGHT / 2, came = row[2].filter((ms) => ms >= 0);
      if (place % 10 === 0) {
        pen.fillStyle = "#57534e";
        pen.fillText(row[1].toFixed(1) + " s", 0, y + 4);
      }
      pen.fillStyle = came.length ? "#e7e5e4" : "#fca5a5";
      pen.fillRect(x(0), y - 0.5, (came.length ? x(Math.max(...came)) : x(limit)) - x(0), came.length ? 1 : 2);
      row[2].forEach((ms, index) => {
        if (ms < 0) return;
        pen.fillStyle = data.colours[index];
        pen.beginPath();
        pen.arc(x(ms), y, Math.max(1.6, 3.4 - 0.45 * index), 0, 7);
        pen.fill();
      });
    }
    const end = Math.min(first + shown, rows.length);
    where.textContent = "frames " + (first + 1) + " to " + end + " of " + rows.length
      + (data.left_out ? " (" + data.left_out + " more in summary.json's run)" : "");
  };
  const tell = (event) => {
    const place = first + Math.floor((event.clientY - canvas.getBoundingClientRect().top) / HEIGHT);
    const row = rows[place];
    if (!row) return;
    const came = row[2].map((ms, index) => ms < 0 ? "" : data.blocks[index].replace("_", " ") + " " + ms + " ms");
    const camera = data.cameras.length > 1 ? data.cameras[row[0]] + ", " : "";
    const parts = came.filter(Boolean).join(", ");
    told.textContent = camera + row[1].toFixed(2) + " s: " + (parts ? row[3] + " (" + parts + ")" : "lost");
  };
  const go = (place) => { first = Math.max(0, Math.min(place, rows.length - SHOWN)); draw(); };
  canvas.addEventListener("pointermove", tell);
  canvas.addEventListener("pointerdown", tell);
  document.getElementById("earlier").onclick = () => go(first - SHOWN);
  document.getElementById("later").onclick = () => go(first + SHOWN);
  document.getElementById("loss").onclick = () => {
    const next = rows.findIndex((row, place) => place > first && row[2].every((ms) => ms < 0));
    go(next < 0 ? 0 : next);
  };
  addEventListener("resize", draw);
  addEventListener("beforeprint", draw);
  draw();
})();
