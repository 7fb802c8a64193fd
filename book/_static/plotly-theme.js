// Plotly figures take the text colour of the page, and change it when the reader switches between light and dark.
// Grids, sliders and menus are half-transparent greys that suit both; a figure brings those itself.
(() => {
  const colours = {
    light: { text: "#24292f", card: "#ffffff" },
    dark: { text: "#ced6dd", card: "#1f2630" },
  };

  function restyle(figure) {
    const { text, card } = colours[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];
    if (!figure._fullLayout || figure._fullLayout.font.color === text) return;
    window.Plotly.relayout(figure, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "font.color": text,
      "hoverlabel.bgcolor": card,
      "hoverlabel.font.color": text,
    });
  }

  const restyleAll = () => document.querySelectorAll(".figure-plotly .js-plotly-plot").forEach(restyle);

  // what was drawn in a folded solution had no width yet
  document.addEventListener(
    "toggle",
    (event) => event.target.querySelectorAll(".js-plotly-plot").forEach((figure) => window.Plotly.Plots.resize(figure)),
    true,
  );

  window.addEventListener("DOMContentLoaded", () => {
    restyleAll();
    new MutationObserver(restyleAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  });
  window.addEventListener("load", restyleAll); // figures that were still being drawn
})();
