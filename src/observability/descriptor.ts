/** Standard output and standard error as descriptors on which writes never block. */
import { constants, fstatSync, openSync, type Stats } from "node:fs";
import { isatty } from "node:tty";

export interface Descriptor {
  readonly fd: number;
  /** Writes to a file complete sooner or later; writes to anything else take as many bytes as fit. */
  readonly kind: "file" | "stream";
}

/**
 * The descriptor for `stream`, whose number is `fd`. A pipe or terminal is opened again, because O_NONBLOCK belongs to the open file
 * description, which other processes may share. If that is impossible (sockets, another user's pipe, systems without /proc), creating
 * Node's own stream makes pipes and sockets non-blocking, and Node resets them when the process ends.
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
    // The descriptor was closed before the process started.
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
