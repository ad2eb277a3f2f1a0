"use strict";
// Plays instants [seconds, …] with the elements <id>-play, -slide and -clock, from the one numbered `at` on; draw(row)
// shows one. Gives what shows the present one again.
const player = (id, instants, draw, at = 0) => {
  const [play, slide, clock, slow] = ["play", "slide", "clock", "slow"]
    .map((part) => document.getElementById(`${id}-${part}`));
  let timer = 0;
  slide.max = instants.length - 1;
  const show = () => {
    draw(instants[at]);
    clock.textContent = instants[at][0].toFixed(2) + " s";
    slide.value = at;
  };
  const stop = () => { clearTimeout(timer); timer = 0; play.textContent = "Play"; };
  const next = () => {
    if (at + 1 >= instants.length) { stop(); return; }
    const wait = (slow?.checked ? 4000 : 1000) * (instants[at + 1][0] - instants[at][0]);
    timer = setTimeout(() => { at += 1; show(); next(); }, Math.max(20, wait));
  };
  play.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (at + 1 >= instants.length) at = 0;
    play.textContent = "Pause";
    show();
    next();
  });
  slide.addEventListener("input", () => { stop(); at = Number(slide.value); show(); });
  window.addEventListener("resize", show);
  show();
  return show;
};
