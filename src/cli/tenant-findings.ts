/**
 * The most common mistakes in tenants' databases, each with its cure; checked for all tenants of a database
 * together.
 */

import { QuoteUtils } from "@pgsql/quotes";
import { z } from "zod";
import type { Transaction } from "../postgres/database.ts";
import { probeSettings } from "../shape/shape.ts";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { isNameable } from "./enum-names.ts";
import {
  enumRowsQuery,
  enumValuesQuery,
  extensionsQuery,
  functionsQuery,
  rolesQuery,
} from "./tenant-queries.ts";

export interface TenantFinding {
  /** `fault`: requests or the build fail, or behave differently than they appear to. `note`: it may be intended. */
  readonly level: "fault" | "note";
  readonly tenant: string;
  readonly text: string;
}

const quote = (name: string): string => QuoteUtils.quoteIdentifier(name);

export interface FindingOptions {
  /** Whether the user has a preset, which may name things differently. */
  readonly preset: boolean;
}

/**
 * Checks `tenants`, which must all be in this database; one statement per kind of mistake, however many
 * tenants there are.
 */
export async function tenantFindings(
  transaction: Pick<Transaction, "query">,
  tenants: readonly Tenant[],
  { preset }: FindingOptions,
): Promise<readonly TenantFinding[]> {
  if (tenants.length === 0) return [];
  await transaction.query(probeSettings);
  const asked = [JSON.stringify(tenants.map(facts))];
  const byId = new Map(tenants.map((tenant) => [String(tenant.id), tenant]));
  const ask = async <Row>(text: string, row: z.ZodType<Row>): Promise<Row[]> =>
    (await transaction.query(text, asked)).rows.map((each) => row.parse(each));
  return [
    ...(await ask(rolesQuery, roleRow)).flatMap(ofRole),
    ...(await ask(functionsQuery, functionRow)).map((row) => ofFunction(row, byId.get(row.tenant))),
    ...(await ask(enumRowsQuery, enumRow)).map((row) => ofEnumRows(row, byId.get(row.tenant))),
    ...(await ask(enumValuesQuery, valuesRow)).flatMap((row) => ofEnumValues(row, preset)),
    ...(await ask(extensionsQuery, extensionRow)).map((row) => ofExtension(row, byId.get(row.tenant))),
  ];
}

function facts({ id, roles, session, schemas, sharedSchemas }: Tenant): object {
  return {
    id,
    roles: listedRoles(roles),
    asker: session?.role ?? null,
    served: physicalNames(schemas),
    shared: sharedSchemas,
  };
}

const names = z.array(z.string());

const roleRow = z.object({
  tenant: z.string(),
  role: z.string(),
  host: z.string(),
  known: z.boolean(),
  member: z.boolean(),
  takes: z.boolean(),
  /** The tenant's schemas that the role may not use. */
  closed: names,
  schemas: z.int(),
  modern: z.boolean(),
});

function ofRole(row: z.infer<typeof roleRow>): TenantFinding[] {
  const { tenant, known, member, takes, closed, schemas, modern } = row;
  const role = quote(row.role);
  const host = quote(row.host);
  const found = (level: TenantFinding["level"], text: string): TenantFinding => ({ level, tenant, text });
  if (!known) return [found("fault", `role ${role} does not exist: create role ${role} nologin`)];
  const findings: TenantFinding[] = [];
  const options = modern ? " with inherit false, set true" : "";
  if (!member) {
    findings.push(
      found(
        "fault",
        `the connecting role ${host} is not a member of role ${role}: grant ${role} to ${host}${options}`,
      ),
    );
  } else if (!takes) {
    findings.push(
      found(
        "fault",
        `the connecting role ${host} is a member of role ${role} but may not SET ROLE to it: grant ${role} to ${host} with set true`,
      ),
    );
  }
  if (closed.length > 0) {
    const which = closed.map(quote).join(", ");
    const cure = `grant usage on schema ${which} to ${role}`;
    findings.push(
      closed.length === schemas
        ? found("fault", `role ${role} may not use the tenant's schema ${which}: ${cure}`)
        : found(
            "note",
            `role ${role} may use some of the tenant's schemas, but not ${which}: if it should, ${cure}`,
          ),
    );
  }
  return findings;
}

const functionRow = z.object({ tenant: z.string(), function: z.string() });

function ofFunction(row: z.infer<typeof functionRow>, tenant: Tenant | undefined): TenantFinding {
  return {
    level: "note",
    tenant: row.tenant,
    text: `function ${row.function} is left out of the API because none of the tenant's roles may execute it: to include it, grant execute on function ${row.function} to ${someRole(tenant)}`,
  };
}

const enumRow = z.object({ tenant: z.string(), table: z.string(), schema: z.string(), usage: z.boolean() });

function ofEnumRows(
  { table, schema, usage, ...row }: z.infer<typeof enumRow>,
  tenant: Tenant | undefined,
): TenantFinding {
  const role = someRole(tenant);
  const cure = `grant select on ${table} to ${role}${usage ? "" : `; grant usage on schema ${schema} to ${role}`}`;
  return {
    level: "fault",
    tenant: row.tenant,
    text: `no role used for the tenant's builds may read the rows of ${table}, which are the values of an enum (@enum): ${cure}`,
  };
}

const valuesRow = z.object({ tenant: z.string(), type: z.string(), labels: names });

function ofEnumValues({ tenant, type, labels }: z.infer<typeof valuesRow>, preset: boolean): TenantFinding[] {
  const odd = labels.filter((label) => !isNameable(label));
  const [first] = odd;
  if (first === undefined) return [];
  const which = odd.map((label) => JSON.stringify(label)).join(", ");
  const literal = `'${first.replaceAll("'", "''")}'`;
  return [
    {
      // A preset's inflector may have a name for it.
      level: preset ? "note" : "fault",
      tenant,
      text: `the enum ${type} has values that are not valid GraphQL names (${which}): alter type ${type} rename value ${literal} to …, or name it with an enumValue inflector in the preset`,
    },
  ];
}

const extensionRow = z.object({
  tenant: z.string(),
  extension: z.string(),
  schema: z.string(),
  operators: z.boolean(),
  /** Whether the schema is on the tenant's path, and which of its roles may not use it. */
  listed: z.boolean(),
  closed: names,
});

function ofExtension(row: z.infer<typeof extensionRow>, tenant: Tenant | undefined): TenantFinding {
  const { extension, operators, listed, closed } = row;
  const schema = quote(row.schema);
  const roles = closed.map(quote).join(", ");
  const path = JSON.stringify([...(tenant?.sharedSchemas ?? []), row.schema]);
  const wrong = [
    ...(listed ? [] : ["is not on its search path"]),
    ...(closed.length === 0 ? [] : [`may not be used by role ${roles}`]),
  ];
  const cures = [
    ...(listed ? [] : [`set "sharedSchemas": ${path}`]),
    ...(closed.length === 0 ? [] : [`grant usage on schema ${schema} to ${roles}`]),
  ];
  const operator = operators ? ", and operators such as = silently compare as another type" : "";
  return {
    level: operators ? "fault" : "note",
    tenant: row.tenant,
    text: `the schema ${schema} of the extension ${extension}, whose types the tenant uses, ${wrong.join(" and ")} (type "…" does not exist${operator}): ${cures.join("; ")}`,
  };
}

function someRole(tenant: Tenant | undefined): string {
  const [role] = tenant === undefined ? [] : listedRoles(tenant.roles);
  return role === undefined ? "the connecting role" : quote(role);
}
