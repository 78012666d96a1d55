/** A progress bar on a terminal; elsewhere nothing, as a log has no use for it. */
import { Presets, SingleBar } from "cli-progress";

export interface Progress {
  /** One more is done. */
  step(): void;
  /** Takes the bar away again. */
  stop(): void;
}

/** A bar of `total` steps on standard error, so that the result alone goes where standard output does. */
export function startProgress(what: string, total: number): Progress {
  // By default it draws nothing where there is no terminal. The cursor stays, for it would not come back after Ctrl-C.
  const bar = new SingleBar(
    {
      format: `${what} {bar} {value}/{total}, about {eta_formatted} left`,
      clearOnComplete: true,
      hideCursor: false,
    },
    Presets.rect,
  );
  bar.start(total, 0);
  return { step: () => bar.increment(), stop: () => bar.stop() };
}
