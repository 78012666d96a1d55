import { describe, expect, it } from "vitest";
import { authHost, now } from "../support/auth-host.ts";
import { notesOf, notesQuery, withToken } from "../support/auth-tenants.ts";

const auth = authHost();

describe("a token", () => {
  it("runs a request in its account's role, with the rows that its claims may see", async () => {
    for (const user of [1, 2, 3]) {
      const answer = await withToken(
        auth.at.host,
        auth.at.acme,
        await auth.sign({ user_id: user }),
        notesQuery,
      );
      expect(answer).toMatchObject({ status: 200, data: notesOf(auth.at.acme, user) });
    }
    const admin = await withToken(
      auth.at.host,
      auth.at.acme,
      await auth.sign({ role: auth.at.acme.roles.others[0] }),
      "{ whoami }",
    );
    expect(admin.data).toEqual({ whoami: auth.at.acme.roles.others[0] });
    expect(await auth.at.host.data("acme", notesQuery)).toEqual({
      whoami: auth.at.acme.roles.anonymous,
      allNotes: { nodes: [] },
    });
  });

  it("does not keep tenants from sharing an instance, whatever their rules", async () => {
    const keys = ["acme", "globex", "hooli"].map(async (id) => {
      await auth.at.host.data(id, "{ whoami }");
      return (await auth.at.host.adminJson(`/tenants/${id}`)).key;
    });
    const [acme, globex, hooli] = await Promise.all(keys);
    expect(acme).toMatch(/^bp:/);
    expect([globex, hooli]).toEqual([acme, acme]);
  });

  it("makes its claims readable in writes too", async () => {
    const mutation = `mutation { signedNote(input: { body: "canary_acme mine" }) { result { ownerId body } } }`;
    const answer = await withToken(auth.at.host, auth.at.acme, await auth.sign({ user_id: 2 }), mutation);
    expect(answer.data).toEqual({ signedNote: { result: { ownerId: 2, body: "canary_acme mine" } } });
    await auth.at.database.change("acme", "delete from note where id > 3");
  });

  it("leaves no claim to the next request on its connection, its own tenant's or another's", async () => {
    const query = `{ backend whoami name: claim(name: "name") user: claim(name: "user_id") allNotes { nodes { body } } }`;
    const first = await withToken(auth.at.host, auth.at.acme, await auth.sign({ name: "Ada" }), query);
    expect(first.data).toMatchObject({ name: "Ada", user: "1" });
    const later = [
      await withToken(auth.at.host, auth.at.acme, await auth.sign({ user_id: undefined }), query),
      await auth.at.host.graphql("acme", query),
      await auth.at.host.graphql("globex", query),
      await withToken(
        auth.at.host,
        auth.at.globex,
        await auth.sign({ aud: "globex", user_id: undefined }, auth.shared),
        query,
      ),
    ];
    for (const { data, errors } of later) {
      expect(errors).toBeUndefined();
      expect(data.backend).toBe(first.data.backend);
      expect([data.name ?? "", data.user ?? "", data.allNotes.nodes]).toEqual(["", "", []]);
    }
  });

  it("signed with the private key of a configured public key is accepted", async () => {
    const good = await auth.sign({ aud: "hooli" }, "", { alg: "RS256" });
    expect((await withToken(auth.at.host, auth.at.hooli, good, notesQuery)).data).toEqual(
      notesOf(auth.at.hooli, 1),
    );
  });

  it("is accepted within the tenant's clock tolerance, and not beyond", async () => {
    const over = { exp: now() - 1 };
    const atGlobex = await withToken(
      auth.at.host,
      auth.at.globex,
      await auth.sign({ ...over, aud: "globex" }, auth.shared),
      notesQuery,
    );
    expect(atGlobex).toMatchObject({ status: 200, data: notesOf(auth.at.globex, 1) });
    const atInitech = await withToken(
      auth.at.host,
      auth.at.initech,
      await auth.sign({ ...over, aud: "initech" }, auth.shared),
      notesQuery,
    );
    expect(atInitech).toMatchObject({ status: 401, code: "TOKEN_EXPIRED" });
  });
});

describe("a token of one tenant at another", () => {
  it("is refused, even if the two share a key, and however often its own tenant has accepted it", async () => {
    const token = await auth.sign({ aud: "globex" }, auth.shared);
    for (let round = 0; round < 3; round += 1) {
      expect((await withToken(auth.at.host, auth.at.globex, token, notesQuery)).data).toEqual(
        notesOf(auth.at.globex, 1),
      );
      for (const other of [auth.at.acme, auth.at.initech, auth.at.hooli]) {
        const answer = await withToken(auth.at.host, other, token, notesQuery);
        expect(answer).toMatchObject({ status: 401, code: "TOKEN_INVALID" });
      }
    }
  });
});
