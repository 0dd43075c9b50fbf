// Which scripts InfluxDB's own parser and type checker take: a JSON list of them on standard input, a list of true and
// false on standard output. Functions and their arguments are checked, names of measurements and columns are not.
const { Flux } = require("@influxdata/flux-lsp-node");

let text = "";
process.stdin.on("data", (piece) => (text += piece));
process.stdin.on("end", () => {
  console.log(JSON.stringify(JSON.parse(text).map((script) => new Flux(script).is_valid())));
});
