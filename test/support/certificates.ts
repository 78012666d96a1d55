/** Certificates of our own authority, made anew for each run, so that nothing secret or expiring is in the repository. */
// Must come before the modules that need it.
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 86_400_000;

export interface Certified {
  /** Both in PEM format. */
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends Certified {
  /** Issues a certificate to `name`, valid for the host names `reachedBy`. */
  issue(name: string, reachedBy?: readonly string[]): Promise<Certified>;
}

let issued = 0;
const fields = () => {
  issued += 1;
  return {
    serialNumber: issued.toString(16).padStart(4, "0"),
    notBefore: new Date(Date.now() - dayMs),
    notAfter: new Date(Date.now() + 30 * dayMs),
    signingAlgorithm: algorithm,
  };
};

export async function createAuthority(name: string): Promise<Authority> {
  cryptoProvider.set(webcrypto);
  const keys = await newKeys();
  const own = await X509CertificateGenerator.createSelfSigned({
    ...fields(),
    name: `CN=${name}`,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  return {
    ...(await certified(own, keys)),
    issue: async (subject, reachedBy = []) => {
      const theirs = await newKeys();
      const made = await X509CertificateGenerator.create({
        ...fields(),
        subject: `CN=${subject}`,
        issuer: own.subject,
        publicKey: theirs.publicKey,
        signingKey: keys.privateKey,
        extensions:
          reachedBy.length === 0
            ? []
            : [new SubjectAlternativeNameExtension(reachedBy.map((value) => ({ type: "dns", value })))],
      });
      return certified(made, theirs);
    },
  };
}

const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);

async function certified(made: X509Certificate, { privateKey }: webcrypto.CryptoKeyPair): Promise<Certified> {
  const key = await webcrypto.subtle.exportKey("pkcs8", privateKey);
  return { cert: made.toString("pem"), key: PemConverter.encode(key, "PRIVATE KEY") };
}
