/** What a thread has to say for the log: of its own, of plugins and of libraries. */
import { format } from "node:util";
import { divert, divertWarnings } from "../src/shared/kernel/divert.ts";
import { messageOf } from "../src/shared/kernel/errors.ts";
import { excerpt } from "../src/shared/kernel/excerpt.ts";
import type { TenantId } from "../src/shared/kernel/ids.ts";
import { RateLimit } from "../src/shared/kernel/rate-limit.ts";
import type { CellMessage } from "../src/shared/protocol/messages.ts";
import type { Log } from "./request/error-mask.ts";

type Report = Omit<Extract<CellMessage, { kind: "log" }>, "kind">;

/** The log writes fewer; this is for the front, which would have to read whatever a loop here says. */
const rate = { burst: 100, perSecond: 10, mostKeys: 1_000 } as const;

export interface ReportsOptions {
  readonly send: (report: Report) => void;
  /** Whose request runs. */
  readonly tenant: () => TenantId | undefined;
}

export class Reports {
  readonly #options: ReportsOptions;
  readonly #limit = new RateLimit(rate);

  constructor(options: ReportsOptions) {
    this.#options = options;
  }

  /** As an excerpt: megabytes do not travel. */
  readonly log: Log = (level, message) => {
    const tenant = this.#options.tenant();
    const leftOut = this.#limit.admit(`${level} ${tenant ?? ""}`);
    if (leftOut === undefined) return;
    this.#options.send({
      level,
      message: excerpt(message),
      ...(tenant === undefined ? {} : { tenant }),
      ...(leftOut === 0 ? {} : { leftOut }),
    });
  };

  /** What was kept back since the last line of its kind, or the last time. */
  tellLeftOut(): void {
    const { byKey, other } = this.#limit.takeLeftOut();
    const leftOut = byKey.reduce((sum, [, count]) => sum + count, other);
    if (leftOut > 0) this.#options.send({ level: "warn", message: "more lines than are taken", leftOut });
  }

  /**
   * What libraries and plugins write or complain of goes where everything else does, without credentials, instead of past the log; and so
   * does a promise that a plugin dropped: it is that plugin's fault alone, and no reason to end every tenant's requests here.
   */
  takeOutput(): void {
    const complain = (...words: unknown[]): void => this.log("warn", format(...words));
    Object.assign(console, { error: complain, warn: complain, dir: complain, trace: complain });
    divert(process.stdout, (text) => this.log("info", text.trimEnd()));
    divert(process.stderr, (text) => this.log("warn", text.trimEnd()));
    divertWarnings((text) => this.log("warn", text));
    process.on("unhandledRejection", (reason) =>
      this.log("error", `unhandled rejection: ${messageOf(reason)}`),
    );
  }
}
