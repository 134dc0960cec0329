// Draws the figures of the report with plotly.js, in the colours of the page.
"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const config = { responsive: true, displaylogo: false, scrollZoom: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg" } };

  function colors(printing) {
    return dark.matches && !printing
      ? { ink: "#e6e9ed", soft: "#9aa5b1", rule: "#2c323a", band: "rgba(230,233,237,0.14)",
          "#0072B2": "#4a97e0" }  // too dark there
      : { ink: "#1b1f24", soft: "#5b6570", rule: "#e6e9ed", band: "rgba(27,31,36,0.10)" };
  }

  // 20, 50, 100 on a logarithmic axis; all digits where it spans little.
  function ticks(traces, key) {
    let low = Infinity, high = 0;
    traces.forEach(function (trace) {
      if ((trace[key[0] + "axis"] || key[0]) + "" !== key.replace("axis", "")) return;
      (trace[key[0]] || []).forEach(function (v) {
        if (v > 0) { low = Math.min(low, v); high = Math.max(high, v); }
      });
    });
    if (!high) return {};
    const digits = high / low > 8 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
    const values = [];
    for (let k = Math.floor(Math.log10(low)) - 1; k <= Math.log10(high) + 1; k++)
      digits.forEach(function (d) { values.push(Number((d * Math.pow(10, k)).toPrecision(3))); });
    return { tickvals: values, ticktext: values.map(String) };
  }

  function axis(given, c, traces, key) {
    return Object.assign({ gridcolor: c.rule, linecolor: c.soft, zerolinecolor: c.rule,
      ticks: "outside", tickcolor: c.soft, ticklen: 4, showline: true, automargin: true,
      exponentformat: "power", minexponent: 5, zeroline: false },
      given.type === "log" ? ticks(traces, key) : {}, given,
      given.title ? { title: { text: given.title.text, standoff: 8, font: { size: 12 } } } : {});
  }

  function layout(given, c, width, traces) {
    const whole = Object.assign({ height: 360, hovermode: "closest",
      // Where there is no mouse, a finger moves the page.
      dragmode: window.matchMedia("(hover: none)").matches ? false : "zoom" }, given, {
      width: width, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: c.ink },
      margin: { l: 56, r: given.yaxis2 ? 56 : 14, t: given.title ? 34 : 26, b: 44 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: c.soft, activecolor: c.ink },
      legend: { orientation: "h", traceorder: "normal", x: 0, y: -0.2, yanchor: "top", font: { size: 11.5 } } });
    for (const key of Object.keys(whole))
      if (/^[xy]axis\d*$/.test(key)) whole[key] = axis(whole[key], c, traces, key);
    if (whole.height !== 360)  // rows of bars: the legend stays near, however few they are
      whole.legend.y = -64 / Math.max(60, whole.height - 60);
    if (whole.title) whole.title = { text: whole.title.text, font: { size: 13 }, x: 0.02, y: 0.98 };
    return whole;
  }

  // "ink" and "band" are the colours of lines that are no data.
  function painted(traces, c) {
    const colored = function (part) {
      return part && c[part.color] ? Object.assign({}, part, { color: c[part.color] }) : part;
    };
    return traces.map(function (trace) {
      return Object.assign({}, trace, trace.line ? { line: colored(trace.line) } : {},
        trace.marker ? { marker: colored(trace.marker) } : {},
        trace.fillcolor ? { fillcolor: c[trace.fillcolor] || trace.fillcolor } : {});
    });
  }

  function draw(name, printing) {
    const place = document.getElementById(name), c = colors(printing);
    const side = place.parentElement.children.length > 1;
    const width = printing ? (side ? 330 : 660) : undefined;
    const given = figures[name];
    return Plotly.react(place, painted(given.data, c), layout(given.layout, c, width, given.data), config)
      .then(function () { place.dataset.drawn = "yes"; });
  }

  const names = Object.keys(figures);
  // One after the other, so that the page can be read meanwhile.
  names.reduce(function (before, name) {
    return before.then(function () { return draw(name, false); })
      .then(function () { return new Promise(function (done) { setTimeout(done, 0); }); });
  }, Promise.resolve()).then(function () { root.dataset.drawn = String(names.length); });

  dark.addEventListener("change", function () { names.forEach(function (n) { draw(n, false); }); });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
    names.forEach(function (n) { draw(n, true); });
  });
  window.addEventListener("afterprint", function () { names.forEach(function (n) { draw(n, false); }); });
})();
