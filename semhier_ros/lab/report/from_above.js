"use strict";
(() => {
  const data = JSON.parse(document.getElementById("above").textContent);
  const canvas = document.getElementById("above-canvas");
  player("above", data.instants, ([, seen, real]) => {
    const scale = window.devicePixelRatio || 1;
    const wide = canvas.clientWidth, high = Math.min(wide, 520), unit = (high - 24) / data.reach;
    canvas.style.height = high + "px";
    canvas.width = wide * scale;
    canvas.height = high * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.font = "11px system-ui, sans-serif";
    const x = (left) => wide / 2 - left * unit, y = (ahead) => high - 12 - ahead * unit;
    pen.strokeStyle = "#e7e5e4";
    pen.fillStyle = "#78716c";
    for (let ring = 10; ring <= data.reach; ring += 10) {
      pen.beginPath();
      pen.arc(x(0), y(0), ring * unit, Math.PI, 2 * Math.PI);
      pen.stroke();
      pen.fillText(ring + " m", x(0) + 3, y(ring) - 2);
    }
    for (const side of [-1, 1]) {
      pen.beginPath();
      pen.moveTo(x(0), y(0));
      pen.lineTo(x(side * data.reach * Math.sin(data.half)), y(data.reach * Math.cos(data.half)));
      pen.stroke();
    }
    pen.fillStyle = "#1c1917";
    pen.fillRect(x(0) - 4, y(0) - 4, 8, 8);
    pen.strokeStyle = "#57534e";
    real.forEach(([ahead, left]) => pen.strokeRect(x(left) - 4, y(ahead) - 4, 8, 8));
    seen.forEach(([ahead, left, long, short, turn, name]) => {
      pen.strokeStyle = pen.fillStyle = "#0f766e";
      pen.beginPath();
      pen.ellipse(x(left), y(ahead), long * unit, short * unit, -turn - Math.PI / 2, 0, 7);
      pen.stroke();
      pen.beginPath();
      pen.arc(x(left), y(ahead), 3, 0, 7);
      pen.fill();
      pen.fillText(name, x(left) + 6, y(ahead) + 4);
    });
  });
})();
