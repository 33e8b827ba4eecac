// Fetches what the grid is made of, and draws it: a second request that depends on a first.
fetch("grid.json")
  .then((answer) => answer.json())
  .then(({ rows, columns }) => {
    const table = document.querySelector("table");
    for (let row = 0; row < rows; row++) {
      const line = table.insertRow();
      for (let column = 0; column < columns; column++) {
        line.insertCell().textContent = row * columns + column;
      }
    }
    document.querySelector("#relays").textContent = `${rows * columns} relays carried this page.`;
  });
