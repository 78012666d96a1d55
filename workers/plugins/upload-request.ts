/** Validates what clients ask the `uploads` plugin for. */
import { SafeError } from "postgraphile/grafast";

export interface UploadLimits {
  /** Content types that may be uploaded, such as `image/png`. */
  readonly contentTypes: readonly string[];
  /** The largest size of one object. */
  readonly maxBytes: number;
}

export interface UploadRequest {
  readonly contentType: string;
  readonly size: number;
}

/** The server generates all keys, so none can point elsewhere. */
const keyPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** GraphQL has already checked the types; zod would take 3 MB of a cell's heap. */
function isUploadRequest(input: unknown): input is UploadRequest {
  if (typeof input !== "object" || input === null || !("contentType" in input && "size" in input))
    return false;
  return typeof input.contentType === "string" && Number.isInteger(input.size);
}

export const uploadWish = {
  /** An error that the client is shown. */
  refused(message: string): SafeError {
    return new SafeError(message, { code: "BAD_REQUEST" });
  },

  /** Throws a SafeError if the request exceeds the limits. */
  parse(input: unknown, { contentTypes, maxBytes }: UploadLimits): UploadRequest {
    if (!isUploadRequest(input) || input.size < 1)
      throw uploadWish.refused("The upload must have at least one byte.");
    const { contentType, size } = input;
    // Compared exactly: a type with parameters or in another case is a different one.
    if (!contentTypes.includes(contentType)) {
      throw uploadWish.refused(`The content type must be one of ${contentTypes.join(", ")}.`);
    }
    if (size > maxBytes) throw uploadWish.refused(`The upload is larger than ${maxBytes} bytes.`);
    return { contentType, size };
  },

  /** Returns `key` if `createUploadUrl` could have made it; throws a SafeError otherwise. */
  key(key: unknown): string {
    if (typeof key !== "string" || !keyPattern.test(key))
      throw uploadWish.refused("The key is not an upload's key.");
    return key;
  },
};
