// Light or dark: as the system has it, until the reader chooses.
const KEY = "arqestra-theme";

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function toggleTheme() {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // private windows may refuse: then the choice lasts as long as the page
  }
  dispatchEvent(new CustomEvent("arqestra:theme"));
}

export function theme() {
  document.getElementById("theme")?.addEventListener("click", toggleTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    dispatchEvent(new CustomEvent("arqestra:theme")),
  );
}
