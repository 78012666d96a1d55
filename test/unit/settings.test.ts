import { describe, expect, it } from "vitest";
import { requestSettings } from "../../src/auth/settings.ts";
import type { RequestFacts } from "../../src/tenant/route.ts";
import { parseTenant } from "../../src/tenant/tenant.ts";

function facts(authorization: string | null): RequestFacts {
  const header = (name: string) => (name === "authorization" ? authorization : null);
  return { method: "POST", path: "/graphql", query: "", host: null, header, remoteAddress: null };
}

const tenant = (roles: object) =>
  parseTenant({ id: "acme", schemas: ["acme"], roles }, { database: "main", databases: ["main"] });

describe("a request's settings", () => {
  it("are the tenant's anonymous role", async () => {
    expect(await requestSettings(tenant({ anonymous: "acme_anonymous" }), facts(null))).toEqual({
      role: "acme_anonymous",
    });
  });

  it("are none where the tenant has no anonymous role", async () => {
    expect(await requestSettings(tenant({ authenticated: "acme_user" }), facts(null))).toEqual({});
  });

  it.each(["Bearer x", "Basic eDp5", ""])(
    "are refused to credentials (%j), never given as anonymous",
    async (value) => {
      const settings = requestSettings(tenant({ anonymous: "acme_anonymous" }), facts(value));
      await expect(settings).rejects.toMatchObject({ code: "TOKEN_INVALID", status: 401 });
    },
  );
});
