/** A preset that derives settings from a request in each way that PostGraphile offers, and shows the results. */
import { makePgService } from "postgraphile/adaptors/pg";
import { context, lambda } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";
import { requestOf, tenantOf } from "../../workers/plugin-api/request.ts";
import { TenantCache } from "../../workers/plugin-api/tenant-cache.ts";

/** Parses the header `name` of a request as JSON. */
function told(headers: object | undefined, name: string): unknown {
  const text: unknown = Reflect.get(headers ?? {}, name);
  return typeof text === "string" ? JSON.parse(text) : undefined;
}

const asked = `select current_user::text as role, session_user::text as session,
  current_setting('search_path') as path, current_setting('application_name') as application,
  current_setting('jwt.claims.user_id', true) as claim, current_setting('app.locale', true) as locale,
  current_setting('app.count', true) as count, array(select body from note order by id) as notes`;

const greetings = new TenantCache<string>({ max: 100 });

const fields = extendSchema(() => ({
  typeDefs: /* GraphQL */ `
    extend type Query {
      "As JSON."
      seen: String
      "As JSON."
      headers: String
      "By locale, and kept for whoever has the same settings."
      greeting: String
      "Without the request's own role."
      asRole(role: String!): String
    }
  `,
  objects: {
    Query: {
      plans: {
        seen: () =>
          lambda(context(), async (given) => JSON.stringify((await requestOf(given).query(asked))[0])),
        headers: () => lambda(context(), (given) => JSON.stringify(Reflect.get(given, "headersSeen"))),
        greeting: () =>
          lambda(context(), (given) => {
            const request = requestOf(given);
            return greetings.get(request, "greeting", () => `hello in ${request.headers["x-user-locale"]}`);
          }),
        asRole: (_query, args) =>
          lambda([context(), args.getRaw("role")], async ([given, role]) => {
            const { pgSettings, withPgClient } = given as unknown as {
              pgSettings: object;
              withPgClient(settings: object, callback: (client: Client) => Promise<string>): Promise<string>;
            };
            return withPgClient({ ...pgSettings, ...JSON.parse(String(role)) }, async (client) => {
              const { rows } = await client.query({ text: "select current_user::text as role" });
              return String(rows[0]?.["role"]);
            });
          }),
      },
    },
  },
}));

interface Client {
  query(query: { text: string }): Promise<{ rows: Record<string, unknown>[] }>;
}

/** The tenant's setting `way` selects the preset's services. */
export default function preset({
  settings: { way },
}: {
  settings: Readonly<Record<string, string>>;
}): GraphileConfig.Preset {
  const service = makePgService({
    connectionString: "postgres://nobody@nowhere.invalid/nothing",
    schemas: ["elsewhere"],
    pgSettings: (request) => told(request.node?.req.headers, "x-service") as Record<string, string>,
    pgSettingsForIntrospection: { "app.building": "yes", ROLE: "postgres" },
  });
  return {
    extends: [PostGraphileAmberPreset],
    plugins: [fields],
    ...(way === "service" ? { pgServices: [service], grafserv: { websockets: true } } : {}),
    grafast: {
      async context(requestContext) {
        const { headers } = tenantOf(requestContext);
        const given = told(headers, "x-settings") as Record<string, string> | undefined;
        return {
          headersSeen: { tenantOf: headers, node: requestContext.node?.req.headers },
          ...(given === undefined ? {} : { pgSettings: given }),
        };
      },
    },
  };
}
