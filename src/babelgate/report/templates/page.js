(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");

  function stored(value) {
    try {
      if (value) localStorage.setItem("babelgate-theme", value);
      return localStorage.getItem("babelgate-theme");
    } catch (error) {
      return null; // storage may be blocked for local files
    }
  }
  function dark() {
    if (root.dataset.theme) return root.dataset.theme === "dark";
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }
  var toggle = document.getElementById("theme");
  function name() {
    toggle.textContent = dark() ? "Light" : "Dark";
    toggle.setAttribute("aria-label", "Switch to the " + (dark() ? "light" : "dark") + " theme");
  }
  var chosen = stored();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  name();
  toggle.addEventListener("click", function () {
    root.dataset.theme = dark() ? "light" : "dark";
    stored(root.dataset.theme);
    name();
  });

  // A saved figure gets the figures' style sheet with its light colours written out.
  var css = document.getElementById("figure-css").content.textContent;
  function make(name, attributes) {
    var node = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.keys(attributes).forEach(function (key) { node.setAttribute(key, attributes[key]); });
    return node;
  }
  function save(button) {
    var drawing = button.closest("figure").querySelector(".wide svg").cloneNode(true);
    var margin = 16;
    var outer = make("svg", {
      width: drawing.viewBox.baseVal.width + 2 * margin,
      height: drawing.viewBox.baseVal.height + 2 * margin,
    });
    var style = make("style", {});
    style.textContent = css;
    drawing.setAttribute("x", margin);
    drawing.setAttribute("y", margin);
    drawing.setAttribute("overflow", "visible");
    outer.append(style, make("rect", { class: "paper", width: "100%", height: "100%" }), drawing);
    var blob = new Blob([new XMLSerializer().serializeToString(outer)], { type: "image/svg+xml" });
    var link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = button.dataset.name + ".svg";
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }
  document.querySelectorAll("button.save").forEach(function (button) {
    button.addEventListener("click", function () { save(button); });
  });
})();
