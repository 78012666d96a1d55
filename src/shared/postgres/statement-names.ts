/** What the names of all prepared statements of this thread begin with: 96 bits that nobody can guess. */
import { randomBytes } from "node:crypto";

export const namespace = randomBytes(12).toString("base64url");
