/** The database of `fairness`: a victim and attackers of one shape, others of a shape each, and the functions and rows that attacks use. */
import { QuoteUtils } from "@pgsql/quotes";
import { SignJWT } from "jose";
import pg from "pg";
import { type BenchDatabase, type BenchTenant, benchDatabase } from "./database.ts";
import { installByCli } from "./rowhouse.ts";

/** Tenants of one shape, the victim first: they share an instance, a cell and its connections. */
const alike = 5;
/** More schemas than can be built within one arm. */
const others = 80;
const tables = 3;
/** The number of rows in the first attacker's table `page`, 31 MB in all; one SQL result may have 32 MB. */
const pages = 31_000;
const pageBytes = 1_000;

/** A tenant as in the host's config. Each accepts tokens signed with its own secret. */
export interface FairnessTenant extends BenchTenant {
  readonly roles: { readonly anonymous: string; readonly authenticated: string };
  readonly jwt: { readonly secret: string };
}

export interface FairnessDatabase {
  readonly database: BenchDatabase;
  readonly victim: FairnessTenant;
  readonly attackers: readonly FairnessTenant[];
  readonly others: readonly FairnessTenant[];
  /** Ends the backends that a killed host left behind, with their locks and running statements. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

const secretOf = (id: string): string => `the secret of ${id} in this bench`.padEnd(48, ".");

const completed = (tenant: BenchTenant): FairnessTenant => ({
  ...tenant,
  roles: { anonymous: tenant.roles.anonymous, authenticated: tenant.roles.anonymous },
  jwt: { secret: secretOf(tenant.id) },
});

/** A token that `tenant` accepts for an hour. */
export function tokenFor({ id, jwt }: FairnessTenant): Promise<string> {
  return new SignJWT({ sub: "someone" })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience(id)
    .setExpirationTime("1h")
    .sign(Buffer.from(jwt.secret));
}

/**
 * `hold_locks` exclusively takes the advisory locks under which the named tenants' writes run, and then, for the given time, every
 * advisory lock that it finds in pg_locks: a key that cannot be guessed can still be seen there.
 */
const holdLocks = (schema: string): string => `
  create function ${schema}.hold_locks(tenants text[], seconds double precision) returns integer
  language plpgsql stable as $$
  declare
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    name text;
    lock record;
    held integer := 0;
  begin
    foreach name in array tenants loop
      perform pg_advisory_lock(hashtextextended('rowhouse.tenant:' || name, 0));
    end loop;
    while clock_timestamp() < until loop
      for lock in
        select distinct classid::bigint as high, objid::bigint as low, objsubid from pg_locks
        where locktype = 'advisory' and pid <> pg_backend_pid()
      loop
        if lock.objsubid = 1 then
          perform pg_advisory_xact_lock((lock.high << 32) | lock.low);
        else
          perform pg_advisory_xact_lock(
            (lock.high - (lock.high >> 31) * 4294967296)::integer, (lock.low - (lock.low >> 31) * 4294967296)::integer);
        end if;
        held := held + 1;
      end loop;
      perform pg_sleep(0.005);
    end loop;
    return held;
  end
  $$`;

/** Additions to the tables of all benches. The victim has the same functions, because it must share the attackers' shape. */
function furtherSql({ schemas, roles }: BenchTenant, index: number): string {
  const schema = QuoteUtils.quoteIdentifier(schemas.app);
  const role = QuoteUtils.quoteIdentifier(roles.anonymous);
  const statements = [
    `create table ${schema}.thing (id uuid primary key default gen_random_uuid(), name text not null)`,
    `create table ${schema}.page (id integer generated always as identity primary key, body text not null)`,
    `create function ${schema}.total(numbers integer[]) returns bigint language sql stable as
      $$ select sum(number) from unnest(numbers) number $$`,
    `create function ${schema}.size_of(value jsonb) returns integer language sql stable as
      $$ select length(value::text) $$`,
    `create function ${schema}.nap(seconds double precision) returns text language sql stable as
      $$ select pg_sleep(seconds)::text $$`,
    `create function ${schema}.failing(dividend integer) returns integer language sql stable as
      $$ select dividend / (dividend - dividend) $$`,
    holdLocks(schema),
    `grant select, insert, update, delete on ${schema}.thing, ${schema}.page to ${role}`,
  ];
  if (index === 1) {
    statements.push(
      `insert into ${schema}.page (body) select left(repeat(md5(n::text), ${Math.ceil(pageBytes / 32)}), ${pageBytes}) from generate_series(1, ${pages}) n`,
    );
  }
  // One column more than the previous tenant, so that each has a shape of its own.
  if (index >= alike) {
    const columns = Array.from({ length: index - alike + 1 }, (_, n) => `add column more_${n + 1} integer`);
    statements.push(`alter table ${schema}.t1_item ${columns.join(", ")}`);
  }
  return statements.join(";\n");
}

/** Starts a server with these tenants, and has the checkout at `host` install its control schema. */
export async function fairnessDatabase(host: string | undefined): Promise<FairnessDatabase> {
  const database = await benchDatabase(alike + others, tables, 1, furtherSql);
  try {
    await installByCli(database, host);
    const [victim, ...rest] = database.tenants.map(completed);
    if (victim === undefined) throw new Error("no tenants");
    await fillTable(database, [victim, ...rest]);
    return {
      database,
      victim,
      attackers: rest.slice(0, alike - 1),
      others: rest.slice(alike - 1),
      clear: () => clear(database),
      close: () => database.close(),
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** Inserts the same tenants into the control table, for hosts that read them from there. */
async function fillTable(database: BenchDatabase, tenants: readonly FairnessTenant[]): Promise<void> {
  const owner = new pg.Client({ connectionString: database.ownerUrl });
  await owner.connect();
  try {
    for (const { id, schemas, roles, jwt } of tenants) {
      await owner.query(
        "insert into rowhouse.tenant (id, hosts, schemas, roles, jwt) values ($1, $2, $3, $4, $5)",
        [id, [`${id}.example`], JSON.stringify(schemas), JSON.stringify(roles), JSON.stringify(jwt)],
      );
    }
  } finally {
    await owner.end();
  }
}

async function clear(database: BenchDatabase): Promise<void> {
  const owner = new pg.Client({ connectionString: database.ownerUrl });
  await owner.connect();
  try {
    // Each call waits up to ten seconds for its backend to end.
    await owner.query(
      "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'bench_host' and pid <> pg_backend_pid()",
    );
  } finally {
    await owner.end();
  }
}
