/** One tenant's part of an S3-compatible object store, and the signed URLs into it. */
import { randomUUID } from "node:crypto";
import type { S3Client, S3ClientConfig } from "@aws-sdk/client-s3";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantId } from "../../src/shared/kernel/ids.ts";
import type { UploadRequest } from "./upload-request.ts";

export interface StoreConfig {
  /** Options of the AWS SDK's S3Client: region, credentials, endpoint, forcePathStyle… */
  readonly client: S3ClientConfig;
  readonly bucket: string;
  /** Precedes the tenant's id in every key, such as `uploads/`. */
  readonly prefix?: string;
}

export interface SignedUrl {
  readonly url: string;
  readonly expiresAt: string;
}

export interface SignedUpload extends SignedUrl {
  readonly key: string;
  readonly method: string;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
}

type Sdk = typeof import("@aws-sdk/client-s3") & typeof import("@aws-sdk/s3-request-presigner");

const prefixPattern = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*$/;

export class ObjectStore {
  readonly #sdk: Sdk;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #directory: string;

  private constructor(sdk: Sdk, client: S3Client, bucket: string, directory: string) {
    this.#sdk = sdk;
    this.#client = client;
    this.#bucket = bucket;
    this.#directory = directory;
  }

  /** Loads the SDK if needed. Sends nothing to the store, because URLs are signed locally. */
  static async open(tenant: TenantId, { client, bucket, prefix = "" }: StoreConfig): Promise<ObjectStore> {
    if (bucket === "" || !prefixPattern.test(prefix)) {
      throw new HostError(
        "INTERNAL",
        "uploads: store needs a bucket, and its prefix must be empty or like `uploads/`",
      );
    }
    const sdk = {
      ...(await import("@aws-sdk/client-s3")),
      ...(await import("@aws-sdk/s3-request-presigner")),
    };
    // A checksum would be signed with the URL, and there is no body yet to compute it from.
    const s3 = new sdk.S3Client({ requestChecksumCalculation: "WHEN_REQUIRED", ...client });
    // Separated by tenant even if a preset gives all tenants the same bucket and prefix.
    return new ObjectStore(sdk, s3, bucket, `${prefix}${tenant}/`);
  }

  /** Signs an upload. Type and length are part of the signature, so the store refuses a body that has others. */
  async upload({ contentType, size }: UploadRequest, expiresSeconds: number): Promise<SignedUpload> {
    const key = randomUUID();
    const command = new this.#sdk.PutObjectCommand({
      Bucket: this.#bucket,
      Key: this.#directory + key,
      ContentType: contentType,
      ContentLength: size,
    });
    const signableHeaders = new Set(["host", "content-type", "content-length"]);
    const options = { expiresIn: expiresSeconds, signableHeaders };
    const url = await this.#sdk.getSignedUrl(this.#client, command, options);
    const headers = [
      { name: "content-type", value: contentType },
      { name: "content-length", value: String(size) },
    ];
    return { key, url, expiresAt: expiry(expiresSeconds), method: "PUT", headers };
  }

  /** Signs a download as an attachment, so that uploads are not rendered as pages on the store's own origin. */
  async download(key: string, expiresSeconds: number): Promise<SignedUrl> {
    const command = new this.#sdk.GetObjectCommand({
      Bucket: this.#bucket,
      Key: this.#directory + key,
      ResponseContentDisposition: "attachment",
    });
    const url = await this.#sdk.getSignedUrl(this.#client, command, { expiresIn: expiresSeconds });
    return { url, expiresAt: expiry(expiresSeconds) };
  }
}

function expiry(seconds: number): string {
  return new Date(Date.now() + seconds * 1_000).toISOString();
}
