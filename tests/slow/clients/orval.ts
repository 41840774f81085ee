// The tour with orval's functions on fetch, and its zod schemas. API is the address of a service, PICTURE a PNG file.
import { strict as assert } from "node:assert";
import { readFile } from "node:fs/promises";
import * as api from "./api.js";
import * as schemas from "./schemas.js";

let signedIn: RequestInit = {};

const account = { username: "orval", password: "a difference engine" };
const signedUp = await api.createUser(schemas.CreateUserBody.parse({ ...account, email: "orval@example.org" }));
assert.equal(signedUp.status, 201);
const session = await api.createSession({ login: account.username, password: account.password });
assert.ok(session.status === 201);
signedIn = { headers: { Authorization: `Bearer ${session.data.token}` } };
const json = { headers: { ...signedIn.headers, "Content-Type": "application/json" } };

const template = await api.createTemplate(
  {
    name: "Night detective",
    style: "vintage",
    prompt: "{name}, {role}",
    attribute_schema: {
      type: "object",
      required: ["role"],
      properties: { role: { type: "string", enum: ["inspector", "suspect"], default: "suspect" } },
    },
  },
  {},
  json,
);
assert.ok(template.status === 201);
const body = { name: "Mira Halloran", template: template.data.id, tags: ["night, city", "detective"] };
const created = await api.createCharacter(schemas.CreateCharacterBody.parse(body), {}, json);
assert.ok(created.status === 201);
const mira = created.data;
assert.deepEqual(mira.attributes, { role: "suspect" });

assert.ok(!schemas.CreateCharacterBody.safeParse({ ...body, name: "" }).success);
const refused = await api.createCharacter({ ...body, name: "" }, {}, json);
assert.ok(refused.status === 422);
assert.equal(refused.data.errors?.[0]?.pointer, "/name");
const changed = await api.updateCharacter(
  mira.id,
  { attributes: { role: "inspector" }, template: mira.template },
  {},
  { headers: { ...json.headers, "If-Match": `"${mira.id}-1"` } },
);
assert.ok(changed.status === 200 && changed.data.version === 2);

const picture = new Blob([await readFile(process.env.PICTURE!)], { type: "image/png" });
const portrayed = await api.updatePortrait(mira.id, { file: picture }, {}, signedIn);
assert.ok(portrayed.status === 200 && portrayed.data.portrait && portrayed.data.portrait.width > 0);
const portrait = await api.getPortrait(mira.id, { size: "64" }, signedIn);
assert.ok(portrait.status === 200 && portrait.data instanceof Blob && portrait.data.size > 0);

const tags = ['"night, city"', "detective"];
const found = await api.listCharacters({ owner: "me", tags, sort: ["-created_at", "name"] }, signedIn);
assert.ok(found.status === 200);
const page = schemas.ListCharactersResponse.parse(found.data);
assert.deepEqual(page.items.map((character) => character.id), [mira.id]);
assert.equal(page.next_cursor, null);
const narrowed = await api.listCharacters(
  { owner: "me", fields: ["name", "attributes"], expand: ["owner", "template"] },
  signedIn,
);
assert.ok(narrowed.status === 200);
const item = schemas.ListCharactersResponse.parse(narrowed.data).items[0];
assert.ok(item?.owner && "display_name" in item.owner);
assert.ok(item.template && "name" in item.template && item.template.name === "Night detective");
assert.ok("attributes" in item && item.attributes?.role === "inspector");

const card = await api.getCard(mira.id, { format: "png" }, signedIn);
assert.ok(card.status === 200 && card.data instanceof Blob);
const imported = await api.importCards({ file: [new File([card.data], "mira.png")] }, {}, signedIn);
assert.ok(imported.status === 200);
assert.equal(imported.data.items[0]?.status, 201);
assert.equal(imported.data.items[0].character?.name, "Mira Halloran");

const changes = await api.listChanges({}, signedIn);
assert.ok(changes.status === 200);
assert.equal(schemas.ListChangesResponse.parse(changes.data).items.length, 2);

const exported = await api.exportAccount(signedIn);
assert.equal(exported.status, 200);
assert.ok("stream" in exported);
assert.ok((await exported.stream.text()).trim().split("\n").length > 3);
console.log("The tour is done.");
