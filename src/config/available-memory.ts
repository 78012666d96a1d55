/** How much memory this process may use. */
import { totalmem } from "node:os";

/**
 * Megabytes of the container's limit (cgroup v1 or v2) if that is below the machine's memory, else of the
 * machine's memory.
 */
export function availableMemoryMb(
  constrainedBytes = process.constrainedMemory(),
  totalBytes = totalmem(),
): number {
  // Without a limit this is 0 or, with cgroups set to "max", a number beyond any machine (Node 24.21: 2^64).
  const bytes = constrainedBytes > 0 ? Math.min(constrainedBytes, totalBytes) : totalBytes;
  return Math.floor(bytes / 2 ** 20);
}
