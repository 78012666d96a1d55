/** Builds the statement that makes a transaction's settings. */

import type { Statement } from "../../src/shared/postgres/pipeline.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";

/** Name and value; both are parameters of a prepared statement, never quoted into its text. */
export type Setting = readonly [name: string, value: string];

const settingsText = new Map<number, string>();

export function settingsStatement(settings: readonly Setting[]): Statement {
  const count = settings.length;
  let text = settingsText.get(count);
  if (text === undefined) {
    text = `select ${settingCalls(count, 1).join(", ")}`;
    settingsText.set(count, text);
  }
  return { name: `${namespace}settings_${count}`, text, values: settings.flat() };
}

/** SQL calls that make `count` settings, whose names and values are the parameters from number `first` on. */
export function settingCalls(count: number, first: number): string[] {
  return Array.from(
    { length: count },
    (_, index) => `pg_catalog.set_config($${first + 2 * index}, $${first + 2 * index + 1}, true)`,
  );
}
