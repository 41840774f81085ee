// The tour with openapi-typescript and openapi-fetch. API is the address of a service, PICTURE a PNG file.
import { strict as assert } from "node:assert";
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const api = createClient<paths>({ baseUrl: process.env.API });

// This generator has no type for files but string.
const form = (body: { file: string | string[] }): FormData => {
  const data = new FormData();
  for (const file of [body.file].flat()) data.append("file", file as unknown as Blob);
  return data;
};
const typed = <T>(file: Blob): T => file as unknown as T;

const account = { username: "openapi-fetch", password: "a difference engine" };
const signedUp = await api.POST("/v1/users", { body: { ...account, email: "openapi-fetch@example.org" } });
assert.equal(signedUp.response.status, 201);
const session = await api.POST("/v1/sessions", { body: { login: account.username, password: account.password } });
assert.ok(session.data);
api.use({
  onRequest: ({ request }) => request.headers.set("Authorization", `Bearer ${session.data.token}`),
});

const template = await api.POST("/v1/templates", {
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
});
assert.ok(template.data);
const created = await api.POST("/v1/characters", {
  body: { name: "Mira Halloran", template: template.data.id, tags: ["night, city", "detective"] },
});
assert.ok(created.data);
const mira: components["schemas"]["CharacterRead"] = created.data;
assert.deepEqual(mira.attributes, { role: "suspect" });

const refused = await api.POST("/v1/characters", { body: { name: "", template: template.data.id } });
assert.equal(refused.error?.errors?.[0]?.pointer, "/name");
const path = { character_id: mira.id };
const changed = await api.PATCH("/v1/characters/{character_id}", {
  params: { path, header: { "If-Match": `"${mira.id}-1"` } },
  body: { attributes: { role: "inspector" }, template: mira.template },
});
assert.equal(changed.data?.version, 2);

const picture = new Blob([await readFile(process.env.PICTURE!)], { type: "image/png" });
const portrayed = await api.PUT("/v1/characters/{character_id}/portrait", {
  params: { path },
  body: { file: typed<string>(picture) },
  bodySerializer: (body) => form(body as { file: string }),
});
assert.ok(portrayed.data?.portrait && portrayed.data.portrait.width > 0);
const portrait = await api.GET("/v1/characters/{character_id}/portrait", {
  params: { path, query: { size: "64" } },
  parseAs: "blob",
});
assert.ok(portrait.data && portrait.data.size > 0);

const found = await api.GET("/v1/characters", {
  params: { query: { owner: "me", tags: ['"night, city"', "detective"], sort: ["-created_at", "name"] } },
});
assert.ok(found.data);
assert.deepEqual(found.data.items.map((character) => character.id), [mira.id]);
assert.equal(found.data.next_cursor, null);
const narrowed = await api.GET("/v1/characters", {
  params: { query: { owner: "me", fields: ["name", "attributes"], expand: ["owner", "template"] } },
});
const item = narrowed.data?.items[0];
assert.ok(item?.owner && "display_name" in item.owner);
assert.ok(item.template && "name" in item.template && item.template.name === "Night detective");
assert.ok("attributes" in item && item.attributes?.role === "inspector");

const card = await api.GET("/v1/characters/{character_id}/card", {
  params: { path, query: { format: "png" } },
  parseAs: "blob",
});
assert.ok(card.data);
const imported = await api.POST("/v1/imports", {
  body: { file: [typed<string>(new File([card.data], "mira.png"))] },
  bodySerializer: form,
});
assert.equal(imported.data?.items[0]?.status, 201);
assert.equal(imported.data.items[0].character?.name, "Mira Halloran");

const changes = await api.GET("/v1/changes");
assert.ok(typeof changes.data === "object"); // a string would be the stream
assert.equal(changes.data.items.length, 2);

const lines = await api.GET("/v1/users/me/export", { parseAs: "text" });
assert.ok(lines.data && lines.data.trim().split("\n").length > 3);
console.log("The tour is done.");
