// An ordinary express application that hard-codes its port.
const fs = require("fs");
const express = require("express");

const app = express();
app.get("/", (request, response) => response.type("text").send(fs.readFileSync("content.txt", "utf8")));
app.get("/pid", (request, response) => response.type("text").send(String(process.pid)));
app.listen(3000, () => console.log(`ready ${process.pid}`));
