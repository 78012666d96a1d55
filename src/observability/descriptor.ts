/** Standard output and standard error as descriptors that a write never waits at. */
import { constants, fstatSync, openSync, type Stats } from "node:fs";
import { isatty } from "node:tty";

export interface Descriptor {
  readonly fd: number;
  /** A file takes everything, sooner or later; of anything else a write takes what there is room for. */
  readonly kind: "file" | "stream";
}

/**
 * For `stream`, which is `fd`. A pipe or terminal is opened again: whether a write waits belongs to what was opened, which others may
 * share. Where that cannot be done (sockets, a pipe of another user's, systems without /proc), Node's own stream sees to it for pipes and
 * sockets, and gives it back at the end of the process.
 */
export function standardDescriptor(fd: 1 | 2, stream: () => unknown): Descriptor {
  const stats = statsOf(fd);
  if (stats?.isFile() === true) return { fd, kind: "file" };
  if (stats?.isFIFO() === true || isatty(fd)) {
    const again = openAgain(fd);
    if (again !== null) return { fd: again, kind: "stream" };
  }
  stream();
  return { fd, kind: "stream" };
}

function statsOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    // It was closed before the process began.
    return undefined;
  }
}

function openAgain(fd: number): number | null {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return null;
  }
}
