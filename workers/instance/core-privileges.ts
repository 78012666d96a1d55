/**
 * Privileges as the core shape has them: those of the connecting role, whoever granted them and to which of its roles.
 */
import { HostError } from "../../src/shared/kernel/errors.ts";

type Row = Readonly<Record<string, unknown>>;

/** What the connecting role may do, resolved as pg-introspection does it. */
export class CorePrivileges {
  readonly #self: string;
  readonly #selfId: unknown;
  readonly #reachedIds = new Set<unknown>();
  /** The names of the connecting role and of those that it is a member of; PUBLIC's is empty. */
  readonly #reached: ReadonlySet<string>;
  readonly #isSuperuser: boolean;

  constructor(rows: (name: "roles" | "auth_members") => readonly Row[], currentUser: string) {
    const names = new Map(rows("roles").map((row) => [row["_id"], String(row["rolname"])]));
    this.#self = currentUser;
    this.#selfId = rows("roles").find((row) => row["rolname"] === currentUser)?.["_id"];
    const reached = this.#reachedIds.add(this.#selfId);
    for (let size = -1; size !== reached.size; ) {
      size = reached.size;
      for (const { member, roleid } of rows("auth_members")) if (reached.has(member)) reached.add(roleid);
    }
    this.#reached = new Set(["", ...[...reached].map((id) => names.get(id) ?? "")]);
    this.#isSuperuser = rows("roles").some((row) => row["rolsuper"] === true && reached.has(row["_id"]));
  }

  ofRelation({ relacl, relowner }: Row): readonly string[] {
    if (this.#isSuperuser) return this.#written(allOfTable);
    if (relacl === null) return this.#written(this.#reachedIds.has(relowner) ? allOfTable : "");
    return this.#written(this.#hasNoEntry(relacl, relowner) ? allOfTable : this.#letters(relacl));
  }

  ofColumn({ attacl }: Row): readonly string[] | null {
    const letters = attacl === null ? "" : this.#letters(attacl);
    return letters === "" ? null : this.#written(letters);
  }

  /** Null, which means that everybody may execute it, or else nobody. */
  ofFunction({ proacl, proowner }: Row): readonly string[] | null {
    const may =
      this.#isSuperuser ||
      proacl === null ||
      this.#hasNoEntry(proacl, proowner) ||
      this.#letters(proacl).includes("X");
    return may ? null : [];
  }

  /** Whether it owns an object that has no entry for its owner: pg-introspection takes that for every privilege. */
  #hasNoEntry(acl: unknown, owner: unknown): boolean {
    return owner === this.#selfId && !entriesOf(acl).some(({ role }) => role === this.#self);
  }

  #letters(acl: unknown): string {
    const held = new Set(
      entriesOf(acl)
        .filter(({ role }) => this.#reached.has(role))
        .flatMap(({ letters }) => [...letters]),
    );
    return [...`${allOfTable}X`].filter((letter) => held.has(letter)).join("");
  }

  #written(letters: string): readonly string[] {
    const role = `"${this.#self.replaceAll('"', '""')}"`;
    return letters === "" ? [] : [`${role}=${letters}/${role}`];
  }
}

/** SELECT, INSERT, UPDATE and DELETE; nobody asks for others. */
const allOfTable = "rawd";

interface Entry {
  readonly role: string;
  /** Without whether they may be passed on. */
  readonly letters: string;
}

function entriesOf(acl: unknown): readonly Entry[] {
  if (!Array.isArray(acl)) throw new HostError("BUILD_FAILED", "an object's privileges are no list");
  return acl.map((item) => {
    const [, quoted, plain = "", letters] =
      /^(?:"((?:[^"]|"")*)"|([^"=]*))=([A-Za-z*]*)\//.exec(String(item)) ?? [];
    if (letters === undefined)
      throw new HostError("BUILD_FAILED", "an object's privileges are not understood");
    const role = quoted === undefined ? plain : quoted.replaceAll('""', '"');
    return { role, letters: letters.replaceAll("*", "") };
  });
}
