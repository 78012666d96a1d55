/** Faults in user input (config, tenant records), all reported at once. */
import { HostError } from "../shared/kernel/errors.ts";
import { withoutSecrets } from "../shared/kernel/excerpt.ts";

export interface Fault {
  /** `cells.heapMb`, `tenants[3].hosts[0]`, or the name of an environment variable or option. */
  readonly path: string;
  readonly message: string;
}

/** An invalid config. Its message lists every fault on its own line, cut and without credentials. */
export class ConfigError extends HostError<"CONFIG_INVALID"> {
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[], options?: { cause?: unknown }) {
    const shown = faults.map(({ path, message }) => ({
      path: withoutSecrets(path),
      message: withoutSecrets(message),
    }));
    super("CONFIG_INVALID", shown.map(({ path, message }) => `${path}: ${message}`).join("\n"), options);
    this.faults = shown;
  }
}

/** `a.b[2]["odd key"]`, as in JavaScript. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    const name = String(key);
    if (!/^[A-Za-z_$][\w$-]*$/.test(name)) return `${text}[${JSON.stringify(name)}]`;
    return text === "" ? name : `${text}.${name}`;
  }, "");
}

/** The part of a zod 4 issue that is read here, so that this file does not depend on zod. */
interface Issue {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
  readonly issues?: readonly Issue[];
}

/** One path and message per issue; unknown and invalid keys are reported under their own path. */
export function flatIssues(
  issues: readonly Issue[],
  under: readonly PropertyKey[] = [],
): { path: PropertyKey[]; message: string }[] {
  return issues.flatMap((issue) => {
    const path = [...under, ...issue.path];
    if (issue.code === "unrecognized_keys" && issue.keys !== undefined) {
      const said = issue.message.split("\n");
      return issue.keys.map((key, at) => ({ path: [...path, key], message: unknownKey(said[at]) }));
    }
    if (issue.code === "invalid_key" && issue.issues !== undefined) return flatIssues(issue.issues, path);
    return [{ path, message: issue.message }];
  });
}

/** `keyed` reports one line per key. */
const unknownKey = (said = ""): string => (said.startsWith(unknown) ? said : unknown);
const unknown = "unknown key";

export function faultsOf(issues: readonly Issue[], under: readonly PropertyKey[] = []): Fault[] {
  return flatIssues(issues, under).map(({ path, message }) => ({ path: pathText(path), message }));
}
