/** Statements sent together: one write, one answer, one transaction. */
import { createHash, randomBytes } from "node:crypto";
import pg from "pg";

declare module "pg" {
  interface Query<R, I> {
    prepare(connection: pg.Connection): void;
  }
  interface Connection {
    close(message: { readonly type: "S"; readonly name: string }): void;
    sync(): void;
  }
}

export interface GroupedStatement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** Keep it prepared on its connection, because it runs often or takes long to plan. */
  readonly prepared?: boolean;
}

/**
 * Returns the rows of each statement; all run in one transaction, and none after one that fails. `tenant`:
 * whose share of the connections they use.
 */
export type Together = (
  statements: readonly GroupedStatement[],
  tenant?: string,
) => Promise<readonly (readonly unknown[])[]>;

/** The statements prepared on a connection. */
interface Known {
  /** Prefix of their names: a tenant's function that knew one could replace it with a statement of its own. */
  readonly secret: string;
  /** Name → text. */
  readonly texts: Readonly<Record<string, string>>;
}

const known = new WeakMap<pg.Connection, Known>();

function knownOf(connection: pg.Connection): Known {
  const had = known.get(connection);
  if (had !== undefined) return had;
  const made = { secret: randomBytes(12).toString("base64url"), texts: {} };
  known.set(connection, made);
  return made;
}

const begin: GroupedStatement = { text: "begin" };
/**
 * Enum rows may come from a view or pass a policy, and so run a tenant's function: everything that it set for
 * the session is undone.
 */
const end: readonly GroupedStatement[] = [
  { text: "rollback" },
  { text: "select pg_catalog.pg_advisory_unlock_all()" },
];

/** Run after a failed group. */
export const groupOver = end.map(({ text }) => text).join("; ");

/**
 * A transaction that is rolled back, with one Sync at the end: if a statement fails PostgreSQL skips all that
 * follow, so nothing can run without the settings made before it. A failed group leaves the transaction open:
 * run `groupOver`.
 */
export class Group extends pg.Query {
  /** The rows of each statement. */
  readonly answers: Promise<readonly (readonly unknown[])[]>;
  readonly #statements: readonly GroupedStatement[];
  /** Called only on success: after a failure it is unknown what was prepared, so it is prepared again. */
  #remember = (): void => undefined;

  constructor(statements: readonly GroupedStatement[]) {
    const { promise, resolve, reject } = Promise.withResolvers<readonly (readonly unknown[])[]>();
    super({ text: "" }, undefined, (error: Error | null | undefined, results) => {
      if (error != null) return reject(error);
      this.#remember();
      resolve(
        [results]
          .flat()
          .slice(1, -end.length)
          .map((result) => result.rows),
      );
    });
    this.answers = promise;
    this.#statements = [begin, ...statements, ...end];
  }

  override submit = (connection: pg.Connection): null => {
    const { secret, texts } = knownOf(connection);
    const parsedStatements = { ...texts };
    const unsynced: pg.Connection = Object.create(connection, {
      sync: { value: () => undefined },
      parsedStatements: { value: parsedStatements },
      submittedNamedStatements: { value: {} },
    });
    const named: Record<string, string> = {};
    connection.stream.cork();
    for (const { text, values = [], prepared = false } of this.#statements) {
      const name = prepared ? secret + createHash("sha1").update(text).digest("base64url") : "";
      if (prepared) named[name] = text;
      // Closing a name that does not exist is no error; parsing under an existing name is.
      if (prepared && !Object.hasOwn(parsedStatements, name)) connection.close({ type: "S", name });
      new pg.Query({ text, values: [...values], name }).prepare(unsynced);
    }
    connection.sync();
    connection.stream.uncork();
    this.#remember = () => void known.set(connection, { secret, texts: { ...texts, ...named } });
    return null;
  };
}
