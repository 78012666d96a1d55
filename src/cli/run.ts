/** Parses the command line, runs the command, and turns errors into messages and an exit code. */
import { stripVTControlCharacters } from "node:util";
import { type CommandDef, defineCommand, renderUsage, runCommand } from "citty";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import { ConfigError } from "../validation/config-error.ts";
import { type Command, UsageError } from "./command.ts";
import { hostVersion } from "./version.ts";

const commands: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import("./serve.ts")).serveCommand,
  check: async () => (await import("./check.ts")).checkCommand,
  shape: async () => (await import("./shape.ts")).shapeCommand,
  install: async () => (await import("./install.ts")).installCommand,
  migrate: async () => (await import("./migrate.ts")).migrateCommand,
  watch: async () => (await import("./watch.ts")).watchCommand,
  doctor: async () => (await import("./doctor.ts")).doctorCommand,
};

const description = "A multi-tenant GraphQL host for PostgreSQL";

/** Runs `argv` (without node and script) and returns the exit code. */
export async function runCli(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  const version = await hostVersion();
  if (name === "--version" || name === "-v") {
    console.log(version);
    return 0;
  }
  const load = name === undefined || name.startsWith("-") ? undefined : commands[name];
  if (load === undefined) {
    const asked = name === "--help" || name === "-h" || name === "help";
    const usage = await usageOf(await overview(version));
    if (asked) {
      console.log(usage);
      return 0;
    }
    console.error(
      name === undefined ? usage : `rowhouse: unknown command ${JSON.stringify(name)}\n\n${usage}`,
    );
    return 2;
  }
  const command = await load();
  const definition = definitionOf(command, version);
  const usage = (): Promise<string> => usageOf(definition);
  if (rest.includes("--help") || rest.includes("-h")) {
    console.log(await usage());
    return 0;
  }
  try {
    const repeated = repeatedValues(command, requireKnownOptions(command, rest));
    const { result } = await runCommand(definitionOf(command, version, repeated), { rawArgs: [...rest] });
    return typeof result === "number" ? result : 0;
  } catch (error) {
    if (error instanceof UsageError || (error instanceof Error && error.name === "CLIError")) {
      console.error(`rowhouse ${command.name}: ${error.message}\n\n${await usage()}`);
      return 2;
    }
    reportFault(error);
    return 1;
  }
}

/** citty keeps only the last value of an option. */
function repeatedValues(command: Command, given: ReadonlyMap<string, readonly string[]>): RepeatedValues {
  const repeatable = command.repeatable ?? [];
  for (const [name, values] of given) {
    if (values.length > 1 && !repeatable.includes(name)) {
      throw new UsageError(`option --${name} is given more than once`);
    }
  }
  return Object.fromEntries(repeatable.map((name) => [name, given.get(name) ?? []]));
}

type RepeatedValues = Readonly<Record<string, readonly string[]>>;

/** citty adds colours whatever the output is. */
async function usageOf(definition: CommandDef): Promise<string> {
  const text = await renderUsage(definition);
  return process.stdout.isTTY === true && process.stderr.isTTY === true
    ? text
    : stripVTControlCharacters(text);
}

function definitionOf(command: Command, version: string, repeated: RepeatedValues = {}): CommandDef {
  return defineCommand({
    meta: { name: `rowhouse ${command.name}`, description: command.description, version },
    args: command.args,
    run: ({ args }) => command.run({ ...args, ...repeated }),
  });
}

async function overview(version: string): Promise<CommandDef> {
  const entries = await Promise.all(
    Object.entries(commands).map(
      async ([name, load]) => [name, definitionOf(await load(), version)] as const,
    ),
  );
  return defineCommand({
    meta: { name: "rowhouse", description, version },
    subCommands: Object.fromEntries(entries),
  });
}

/**
 * The values given for each option. citty silently accepts unknown options; a misspelled option must not be
 * ignored.
 */
function requireKnownOptions(command: Command, rest: readonly string[]): Map<string, string[]> {
  const given = new Map<string, string[]>();
  const known = new Map(Object.entries(command.args));
  let positionals = 0;
  for (let index = 0; index < rest.length; index += 1) {
    const word = rest[index] ?? "";
    if (!word.startsWith("-")) {
      positionals += 1;
      continue;
    }
    const [, flag = "", value] = /^--?([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    const definition = known.get(flag);
    if (definition === undefined || definition.type === "positional")
      throw new UsageError(`unknown option ${word}`);
    if (definition.type === "boolean") continue;
    const next = rest[index + 1];
    if (value === "" || (value === undefined && (next === undefined || next.startsWith("-")))) {
      throw new UsageError(`option --${flag} needs a value`);
    }
    if (value === undefined) index += 1;
    given.set(flag, [...(given.get(flag) ?? []), value ?? next ?? ""]);
  }
  const expected = [...known.values()].filter((each) => each.type === "positional").length;
  if (positionals > expected && command.lastRepeats !== true) throw new UsageError("too many arguments");
  return given;
}

function reportFault(error: unknown): void {
  if (error instanceof ConfigError) {
    for (const { path, message } of error.faults)
      console.error(`rowhouse: ${path === "" ? "" : `${path}: `}${message}`);
    return;
  }
  if (error instanceof HostError) {
    console.error(`rowhouse: ${error.message}`);
    return;
  }
  console.error(`rowhouse: ${error instanceof Error ? (error.stack ?? error.message) : messageOf(error)}`);
}
