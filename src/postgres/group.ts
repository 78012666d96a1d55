/** Statements that travel together: one write, one answer, one transaction. */
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
  /** Worth keeping prepared on its connection: it is asked often, or takes long to plan. */
  readonly prepared?: boolean;
}

/** The rows of each statement; all in one transaction, and none behind one that fails. `tenant`: whose share of the connections they take. */
export type Together = (
  statements: readonly GroupedStatement[],
  tenant?: string,
) => Promise<readonly (readonly unknown[])[]>;

/** What is prepared on a connection. */
interface Known {
  /** What names begin with there: a tenant's function that knew one could put a statement of its own in its place. */
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
/** Rows of an enum may be a view's or have a policy, and so be made by a tenant's function: whatever it set for the session goes. */
const end: readonly GroupedStatement[] = [
  { text: "rollback" },
  { text: "select pg_catalog.pg_advisory_unlock_all()" },
];

/** Behind a group that failed. */
export const groupOver = end.map(({ text }) => text).join("; ");

/**
 * A transaction that is rolled back, with one Sync at the end of all of it: where a statement fails PostgreSQL skips all that
 * follow, so that nothing can run without the settings that were made before it. What failed is still open: `groupOver`.
 */
export class Group extends pg.Query {
  /** The rows of each statement. */
  readonly answers: Promise<readonly (readonly unknown[])[]>;
  readonly #statements: readonly GroupedStatement[];
  /** Of a group that failed nobody knows what was prepared before that: it is prepared anew. */
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
      // Closing what is not there is no error; parsing under a name that is taken is one.
      if (prepared && !Object.hasOwn(parsedStatements, name)) connection.close({ type: "S", name });
      new pg.Query({ text, values: [...values], name }).prepare(unsynced);
    }
    connection.sync();
    connection.stream.uncork();
    this.#remember = () => void known.set(connection, { secret, texts: { ...texts, ...named } });
    return null;
  };
}
