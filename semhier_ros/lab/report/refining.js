"use strict";
(() => {
  const stage = document.getElementById("stage");
  if (!stage) return;
  const strips = [...document.querySelectorAll(".strip")].filter((strip) => strip.querySelector("[data-ms]"));
  if (!strips.length) return;
  const [screens, track, play, picks, time, state, bytes] =
    ["screens", "track", "play", "picks", "time", "state", "bytes"].map((name) => stage.querySelector("." + name));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const DWELL = 1300;
  let cards = [], timer = 0;

  const show = (place, moving) => {
    const card = cards[place];
    const colour = card ? card.dataset.colour : "#57534e";
    stage.style.setProperty("--c", colour);
    if (card) {
      const copies = [...card.querySelectorAll(".shot, .path")].map((shot) => shot.cloneNode(true));
      copies.forEach((copy) => copy.querySelectorAll("img").forEach((image) => image.removeAttribute("loading")));
      screens.replaceChildren(...copies);
    } else {
      const empty = document.createElement("div");
      empty.className = "shot";
      empty.style.aspectRatio = cards[0].querySelector(".shot").style.aspectRatio;
      const words = document.createElement("p");
      words.className = "nothing";
      words.textContent = "nothing has arrived yet";
      empty.append(words);
      const unknown = cards[0].querySelector(".path")?.cloneNode(true);
      unknown?.querySelectorAll("li").forEach((level) => {
        level.style.setProperty("--w", "0%");
        level.querySelector("b").textContent = "…";
        level.querySelectorAll("em, small").forEach((word) => { word.textContent = ""; });
      });
      screens.replaceChildren(unknown ?? empty, empty.cloneNode(true));
    }
    state.textContent = card ? card.dataset.title : "waiting";
    time.textContent = (card ? Math.round(card.dataset.ms) : 0) + " ms";
    bytes.textContent = (card ? card.dataset.bytes : 0) + " bytes";
    [...track.children].forEach((mark, index) => {
      mark.classList.toggle("came", index <= place);
      mark.classList.toggle("coming", moving && index === place + 1);
    });
  };

  const run = () => {
    clearTimeout(timer);
    if (calm) { show(cards.length - 1, false); return; }
    let place = -1;
    const next = () => {
      show(place, place + 1 < cards.length);
      place += 1;
      if (place < cards.length) timer = setTimeout(next, DWELL);
    };
    next();
  };

  const pick = (index) => {
    cards = [...strips[index].querySelectorAll("[data-ms]")];
    [...picks.children].forEach((button, place) => button.setAttribute("aria-pressed", place === index));
    track.replaceChildren(...cards.map((card, place) => {
      const mark = document.createElement("button");
      const bar = document.createElement("i");
      const name = document.createElement("b");
      const size = document.createElement("span");
      mark.type = "button";
      mark.style.setProperty("--c", card.dataset.colour);
      mark.style.setProperty("--d", DWELL + "ms");
      mark.style.flexGrow = 1 + Math.sqrt(card.dataset.block) / 12;
      name.textContent = card.dataset.title;
      size.textContent = "+" + card.dataset.block + " B";
      mark.append(bar, name, size);
      mark.onclick = () => { clearTimeout(timer); show(place, false); };
      return mark;
    }));
  };

  strips.forEach((strip, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Frame at " + strip.dataset.name;
    button.onclick = () => { pick(index); run(); };
    picks.append(button);
  });
  play.onclick = run;
  stage.hidden = false;
  pick(0);
  show(cards.length - 1, false);
  if (!calm && "IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => {
      if (entries[0].isIntersecting) { seen.disconnect(); run(); }
    }, { threshold: 0.6 });
    seen.observe(stage);
  }
})();
