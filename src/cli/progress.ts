/** A progress bar on a terminal; nothing elsewhere, since it is useless in a log. */
import { Presets, SingleBar } from "cli-progress";

export interface Progress {
  /** Counts one more item as done. */
  step(): void;
  /** Removes the bar. */
  stop(): void;
}

/** A bar of `total` steps on standard error, so that standard output contains only the result. */
export function startProgress(what: string, total: number): Progress {
  // By default it draws nothing without a terminal. The cursor stays visible, because it would not come back
  // after Ctrl-C.
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
