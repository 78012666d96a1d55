/** The interface of a command. */
import type { ArgsDef } from "citty";

/** A command of the command line; `run` returns its exit code. */
export interface Command {
  readonly name: string;
  readonly description: string;
  readonly args: ArgsDef;
  /** Options that may be repeated: `run` receives all their values in an array. */
  readonly repeatable?: readonly string[];
  /** The last positional argument may be given any number of times: all positional ones are in `_`. */
  readonly lastRepeats?: boolean;
  run(args: Readonly<Record<string, unknown>>): Promise<number>;
}

/** Wrong usage: reported with the command's usage, exit code 2. */
export class UsageError extends Error {}
