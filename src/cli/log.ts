/** The log of `serve`, and all other output of the process: none of it ever blocks on its reader. */

import { standardDescriptor } from "../observability/descriptor.ts";
import { Dropped } from "../observability/dropped.ts";
import type { LogLevel } from "../observability/log-line.ts";
import { createLogger, type Logger, type LoggerOptions } from "../observability/logger.ts";
import { Outlet } from "../observability/outlet.ts";
import { divert, divertWarnings } from "../shared/kernel/divert.ts";
import { messageOf } from "../shared/kernel/errors.ts";

/**
 * The logger on standard output. From now on everything written to standard output or standard error is
 * buffered, up to a bound, while its reader does not accept it, and uncaught errors go to the log. The
 * buffers are flushed at exit, as far as there is a reader.
 */
export function openLog(format: LoggerOptions["format"]): Logger {
  const dropped = new Dropped();
  const onDrop = (level: LogLevel): void => dropped.add(level, "full");
  const out = new Outlet({
    descriptor: standardDescriptor(1, () => process.stdout),
    onDrop,
    onResume: () => logger.tellFull(),
  });
  const errors = new Outlet({
    descriptor: standardDescriptor(2, () => process.stderr),
    onDrop,
    onResume: () => logger.tellFull(),
  });
  const logger = createLogger({ level: "info", format, sink: out, dropped });
  divert(process.stdout, (text) => out.write(text, "info"));
  divert(process.stderr, (text) => errors.write(text, "error"));
  watchProcess(logger);
  process.on("exit", () => {
    logger.close();
    out.flush();
    errors.flush();
  });
  return logger;
}

function watchProcess({ observe }: Logger): void {
  const report = (thrown: unknown, fatal: boolean): void => {
    const error = thrown instanceof Error ? thrown : new Error(messageOf(thrown));
    observe({ kind: "host.error", error, fatal });
  };
  // An unhandled rejection is a fault to be logged, not a reason to take the host down for every tenant.
  process.on("unhandledRejection", (reason) => report(reason, false));
  process.on("uncaughtException", (error) => {
    report(error, true);
    process.exit(1);
  });
  divertWarnings((message) => observe({ kind: "host.warning", message }));
}
