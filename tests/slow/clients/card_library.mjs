// Reads cards with character-card-utils and writes one: `node card_library.mjs read|write`, JSON in and out.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.CLIENTS, "package.json"));
const { backfillV2, parseToV2, v1ToV2 } = require("character-card-utils");
const card = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(process.argv[2] === "read" ? parseToV2(card) : backfillV2(v1ToV2(card))));
