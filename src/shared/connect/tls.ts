/** TLS to PostgreSQL: libpq's `sslmode` and certificate files, translated to Node.js options. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ConnectionOptions } from "node:tls";
import { codeOf, HostError, messageOf } from "../kernel/errors.ts";
import type { TlsRules } from "./url.ts";

/**
 * The TLS options for `rules` of any mode but `disable`. Throws `CONFIG_INVALID`, with the path and the cure,
 * if a file cannot be read or there is nothing to verify against. Files are read each time: certificates are
 * replaced while hosts run.
 */
export function tlsOptions(rules: TlsRules): ConnectionOptions {
  const { mode, rootCert, cert, key, keyPassword } = rules;
  const ca = rootCert === "system" ? null : authority(rules);
  const options: ConnectionOptions = {
    ...(ca === null ? {} : { ca }),
    ...(cert === null ? {} : { cert: fileOf("sslcert", cert) }),
    ...(key === null ? {} : { key: fileOf("sslkey", key) }),
    ...(keyPassword === null ? {} : { passphrase: keyPassword }),
  };
  if ((cert === null) !== (key === null)) {
    const [has, lacks] = cert === null ? ["sslkey", "sslcert"] : ["sslcert", "sslkey"];
    throw new HostError(
      "CONFIG_INVALID",
      `${has} is given without ${lacks}: a client certificate needs both`,
    );
  }
  switch (mode) {
    case "verify-full":
      return options;
    case "verify-ca":
      return { ...options, checkServerIdentity: () => undefined };
    case "require":
      // If there is a root certificate, libpq verifies against it, as it did before verify-ca existed.
      return ca === null
        ? { ...options, rejectUnauthorized: false }
        : { ...options, checkServerIdentity: () => undefined };
    default:
      return { ...options, rejectUnauthorized: false };
  }
}

/** The authorities that may have signed the server's certificate; null: those that Node.js trusts. */
function authority({ mode, rootCert }: TlsRules): string | null {
  if (mode === "allow" || mode === "prefer") return null;
  if (rootCert !== null) return fileOf("sslrootcert", rootCert);
  // libpq's default location.
  const path = join(homedir(), ".postgresql", "root.crt");
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Public authorities sign for everybody: without checking the host name that verifies nothing.
    if (mode !== "verify-ca") return null;
    throw new HostError(
      "CONFIG_INVALID",
      `sslmode=verify-ca needs the certificate of the authority, but there is no ${path}: name a file with sslrootcert=, or use sslmode=verify-full`,
    );
  }
}

function fileOf(parameter: string, path: string): string {
  try {
    const text = readFileSync(path, "utf8");
    if (text.includes("-----BEGIN ")) return text;
  } catch (error) {
    const reason = reasons[codeOf(error) ?? ""];
    throw new HostError(
      "CONFIG_INVALID",
      `${parameter}: ${path} ${reason ?? `cannot be read (${messageOf(error)})`}: ${cures[parameter] ?? ""}`,
    );
  }
  throw new HostError("CONFIG_INVALID", `${parameter}: ${path} contains no PEM data`);
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EACCES: "may not be read by this user",
  EPERM: "may not be read by this user",
  EISDIR: "is a directory",
};

const cures: Readonly<Record<string, string>> = {
  sslrootcert:
    "give the path of the authority's certificate, as this process sees it, or sslrootcert=system for those that Node.js trusts",
  sslcert: "give the path of the client's certificate, as this process sees it",
  sslkey: "give the path of the client's key, as this process sees it",
};

const notTrusted =
  "name the authority that signed it with sslrootcert=FILE, or encrypt without verification with sslmode=require";

/** The cure for a rejected certificate, by Node's error code. */
const certificateCures: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: notTrusted,
  SELF_SIGNED_CERT_IN_CHAIN: notTrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: notTrusted,
  UNABLE_TO_GET_ISSUER_CERT: notTrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: notTrusted,
  CERT_HAS_EXPIRED: "renew the server's certificate",
  CERT_NOT_YET_VALID: "check the clocks of both machines",
  ERR_TLS_CERT_ALTNAME_INVALID:
    "connect by a name in the certificate, or skip verification of the name with sslmode=verify-ca",
};

/** Describes a TLS failure at `place`; null if `error` has another cause. */
export function tlsFault(error: unknown, place: string): HostError<"DATABASE_UNREACHABLE"> | null {
  if (!(error instanceof Error)) return null;
  const code = codeOf(error) ?? "";
  const cure = certificateCures[code];
  if (cure !== undefined) {
    return fault(`${place}: the server's certificate is not accepted (${error.message}): ${cure}`, error);
  }
  // These are node-postgres's own messages (8.23.1). A server cannot forge them: its errors arrive as
  // PostgreSQL errors.
  if (error.message === "The server does not support SSL connections") {
    return fault(
      `${place}: the server does not support TLS: enable it there (ssl = on), or use sslmode=disable`,
      error,
    );
  }
  if (
    error.message === "There was an error establishing an SSL connection" ||
    /^ERR_(?:SSL|TLS)_/.test(code)
  ) {
    return fault(`${place}: TLS cannot be established (${error.message})`, error);
  }
  return null;
}

function fault(message: string, cause: unknown): HostError<"DATABASE_UNREACHABLE"> {
  return new HostError("DATABASE_UNREACHABLE", message, { cause });
}
