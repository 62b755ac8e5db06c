"use strict";

/** The key that a cell is sorted by: a number where it has one, else its text; null where it is empty. */
function keyOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "") return null;
  const number = Number(text.replace(/^\[/, "").replace(/,\d\d\d\b/g, (part) => part.slice(1)));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

/** Orders two keys; what is empty comes last either way, and numbers before texts. */
function compare(first, second, sign) {
  if (first === null || second === null) return (first === null) - (second === null);
  if (typeof first !== typeof second) return typeof first === "number" ? -1 : 1;
  return sign * (first < second ? -1 : first > second ? 1 : 0);
}

function sortBy(header) {
  const table = header.closest("table");
  const index = [...header.parentNode.children].indexOf(header);
  const falling = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row.cells[index]), row]);
  rows.sort((a, b) => compare(a[0], b[0], falling ? -1 : 1));
  for (const [, row] of rows) table.tBodies[0].append(row);
}

for (const header of document.querySelectorAll("th")) {
  header.tabIndex = 0;
  header.addEventListener("click", () => sortBy(header));
  header.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(header));
}
