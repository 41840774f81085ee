// The tour with @hey-api/openapi-ts. API is the address of a service, PICTURE a PNG file.
import { strict as assert } from "node:assert";
import { readFile } from "node:fs/promises";
import { client } from "./client.gen.js";
import {
  createCharacter,
  createSession,
  createTemplate,
  createUser,
  exportAccount,
  getCard,
  getCharacter,
  getPortrait,
  importCards,
  listChanges,
  listCharacters,
  listTemplates,
  updateCharacter,
  updatePortrait,
} from "./index.js";

let token = "";
client.setConfig({ baseUrl: process.env.API, auth: () => token, throwOnError: true });
const throwOnError = true;

const account = { username: "hey-api", password: "a difference engine" };
await createUser({ body: { ...account, email: "hey-api@example.org" } });
const session = await createSession({ body: { login: account.username, password: account.password }, throwOnError });
token = session.data.token;
assert.equal(session.data.user.username, account.username);

const template = await createTemplate({
  body: {
    name: "Night detective",
    style: "vintage",
    prompt: "{name}, {role}",
    attribute_schema: {
      type: "object",
      required: ["role"],
      properties: { role: { type: "string", enum: ["inspector", "suspect"], default: "suspect" } },
    },
  },
  throwOnError,
});
const created = await createCharacter({
  body: { name: "Mira Halloran", template: template.data.id, tags: ["night, city", "detective"] },
  throwOnError,
});
const mira = created.data;
assert.deepEqual(mira.attributes, { role: "suspect" });
assert.equal(created.response?.headers.get("location"), `/v1/characters/${mira.id}`);

const refused = await createCharacter({ body: { name: "", template: template.data.id }, throwOnError: false });
assert.equal(refused.error?.errors?.[0]?.pointer, "/name");
const changed = await updateCharacter({
  path: { character_id: mira.id },
  headers: { "If-Match": `"${mira.id}-1"` },
  body: { attributes: { role: "inspector" }, template: mira.template },
  throwOnError,
});
assert.equal(changed.data.version, 2);

const picture = new Blob([await readFile(process.env.PICTURE!)], { type: "image/png" });
const portrayed = await updatePortrait({
  path: { character_id: mira.id },
  body: { file: picture },
  throwOnError,
});
assert.ok(portrayed.data.portrait && portrayed.data.portrait.width > 0);
const portrait = await getPortrait({ path: { character_id: mira.id }, query: { size: "64" }, throwOnError });
assert.ok(portrait.data instanceof Blob && portrait.data.size > 0);

const found = await listCharacters({
  query: { owner: "me", tags: ['"night, city"', "detective"], style: undefined, sort: ["-created_at", "name"] },
  throwOnError,
});
assert.deepEqual(found.data.items.map((character) => character.id), [mira.id]);
assert.equal(found.data.next_cursor, null);
const narrowed = await listCharacters({
  query: { owner: "me", fields: ["name", "attributes"], expand: ["owner", "template"] },
  throwOnError,
});
const item = narrowed.data.items[0];
assert.ok(item?.owner && "display_name" in item.owner);
assert.ok(item.template && "name" in item.template && item.template.name === "Night detective");
assert.ok("attributes" in item && item.attributes?.role === "inspector");
const whole = await getCharacter({ path: { character_id: mira.id }, throwOnError });
assert.equal(whole.data.name, "Mira Halloran");
assert.ok((await listTemplates({ query: { tags: ["none-has-it"] }, throwOnError })).data.items.length === 0);

const card = await getCard({ path: { character_id: mira.id }, query: { format: "png" }, throwOnError });
assert.ok(card.data instanceof Blob);
const imported = await importCards({ body: { file: [new File([card.data], "mira.png")] }, throwOnError });
assert.equal(imported.data.items[0]?.status, 201);
assert.equal(imported.data.items[0]?.character?.name, "Mira Halloran");

const changes = await listChanges({ throwOnError });
assert.equal(changes.data.items.length, 2);
assert.ok(changes.data.next_cursor);

const lines = await exportAccount({ throwOnError, parseAs: "text" });
assert.ok(lines.data.trim().split("\n").length > 3);
console.log("The tour is done.");
