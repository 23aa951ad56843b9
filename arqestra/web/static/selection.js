// Selecting rows: all of a page at once, and ids that are copied by a click.
export function selection() {
  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-select-all]");
    if (!all) return;
    for (const box of all.form.querySelectorAll('input[name="job"]')) box.checked = all.checked;
  });
  document.addEventListener("click", async (event) => {
    const element = event.target.closest("[data-copy]");
    if (!element || !getSelection().isCollapsed || !navigator.clipboard) return;
    await navigator.clipboard.writeText(element.textContent);
    element.title = "copied";
  });
}
