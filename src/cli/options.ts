/** Options shared by several commands. */
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import { UsageError } from "./command.ts";

export const configOption = {
  config: {
    type: "string",
    description: "config file (default: rowhouse.config.ts, .mts, .js, .mjs, .json)",
    valueHint: "FILE",
  },
} as const;

export function textOption(args: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = args[name];
  return typeof value === "string" ? value : undefined;
}

/** A whole number from `least` to `most`; throws a UsageError for anything else. */
export function numberOption(
  args: Readonly<Record<string, unknown>>,
  name: string,
  min: number,
  max: number,
): number | undefined {
  const text = textOption(args, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new UsageError(`--${name} must be a whole number from ${min} to ${max}`);
}

/** The config selected by the command line, the environment and the working directory. */
export function commandConfig(args: Readonly<Record<string, unknown>>): Promise<Config> {
  return loadConfig({
    file: textOption(args, "config"),
    env: process.env,
    cwd: process.cwd(),
    overrides: {
      port: numberOption(args, "port", 0, 65_535),
      adminPort: numberOption(args, "admin-port", 0, 65_535),
    },
  });
}
