/// <reference types="postgraphile" preserve="true" />
/** `rowhouse/plugins/uploads`: URLs by which a client uploads to, and downloads from, its own tenant's part of an object store. */
import { context, lambda, sideEffect } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { perBuild } from "../plugin-api/instance.ts";
import { requestOf, type TenantRequest } from "../plugin-api/request.ts";
import { TenantCache } from "../plugin-api/tenant-cache.ts";
import { ObjectStore, type StoreConfig } from "./object-store.ts";
import { type UploadLimits, uploadWish } from "./upload-request.ts";

export type { StoreConfig } from "./object-store.ts";

export interface UploadsOptions extends UploadLimits {
  /** Where this request's tenant keeps its objects; the answer is cached for five minutes. */
  readonly store: (request: TenantRequest) => StoreConfig | Promise<StoreConfig>;
  /** Whether this request may perform the action. May query the database with `request.query`. */
  readonly authorize: (
    request: TenantRequest,
    action: { readonly kind: "upload" } | { readonly kind: "download"; readonly key: string },
  ) => boolean | Promise<boolean>;
  /** How long a URL is valid; by default 300 s. */
  readonly expiresSeconds?: number;
}

/** A client with its credentials takes 40 kB of heap (3.1162); the least recently used is evicted first. */
const maxStores = 100;

/** Not `createUpload`, which is a table's mutation wherever a table is called `upload`. */
const typeDefs = gql`
  extend type Query {
    "Where to get an object of the request's tenant, by the key that createUploadUrl gave."
    downloadUrl(key: String!): DownloadUrl!
  }
  extend type Mutation {
    "Where to put an object: one of this type and size, once the client sends it there with these headers."
    createUploadUrl(input: CreateUploadUrlInput!): CreateUploadUrlPayload!
  }
  input CreateUploadUrlInput {
    "Such as image/png."
    contentType: String!
    "In bytes."
    size: Int!
  }
  type CreateUploadUrlPayload {
    "What the object is asked for by; made by the server."
    key: String!
    url: String!
    "The method to send it by."
    method: String!
    "To be sent as they are: they are signed."
    headers: [UploadUrlHeader!]!
    expiresAt: String!
  }
  type UploadUrlHeader {
    name: String!
    value: String!
  }
  type DownloadUrl {
    url: String!
    expiresAt: String!
  }
`;

/**
 * Creates the plugin for a preset's `plugins`. Needs `@aws-sdk/client-s3` and `@aws-sdk/s3-request-presigner`, which are loaded
 * for the first URL. Throws `BUILD_FAILED` if one is not installed or `expiresSeconds` is invalid.
 */
export function uploads(options: UploadsOptions): GraphileConfig.Plugin {
  const { expiresSeconds = 300 } = options;
  if (!Number.isInteger(expiresSeconds) || expiresSeconds < 1 || expiresSeconds > 604_800) {
    throw new HostError("BUILD_FAILED", "uploads: expiresSeconds is a number from 1 to 604800");
  }
  for (const name of ["@aws-sdk/client-s3", "@aws-sdk/s3-request-presigner"]) assertInstalled(name);
  const storesOf = perBuild(() => new TenantCache<ObjectStore>({ max: maxStores, per: "tenant" }));

  const extension = extendSchema((build) => {
    const stores = storesOf(build);
    const storeOf = (request: TenantRequest): Promise<ObjectStore> =>
      stores.get(request, "store", async () =>
        ObjectStore.open(request.tenant, await options.store(request)),
      );
    const permitted = async (
      value: object,
      action: Parameters<UploadsOptions["authorize"]>[1],
    ): Promise<TenantRequest> => {
      const request = requestOf(value);
      if ((await options.authorize(request, action)) !== true) throw uploadWish.refused("Not allowed.");
      return request;
    };
    return {
      typeDefs,
      objects: {
        Query: {
          plans: {
            downloadUrl: (_parent, fieldArgs) =>
              lambda([context(), fieldArgs.getRaw("key")], async ([value, asked]) => {
                const key = uploadWish.key(asked);
                const request = await permitted(value, { kind: "download", key });
                return (await storeOf(request)).download(key, expiresSeconds);
              }),
          },
        },
        Mutation: {
          plans: {
            createUploadUrl: (_parent, fieldArgs) =>
              sideEffect([context(), fieldArgs.getRaw("input")], async ([value, input]) => {
                const wish = uploadWish.parse(input, options);
                const request = await permitted(value, { kind: "upload" });
                return (await storeOf(request)).upload(wish, expiresSeconds);
              }),
          },
        },
      },
    };
  }, "RowhouseUploadsPlugin");
  return { ...extension, version: "1.0.0" };
}

/** Resolves the package without loading it: its 5 MB of heap (3.1162) are only spent in cells where somebody uploads. */
function assertInstalled(name: string): void {
  try {
    import.meta.resolve(name);
  } catch (error) {
    throw new HostError("BUILD_FAILED", `rowhouse/plugins/uploads needs ${name}: npm install ${name}`, {
      cause: error,
    });
  }
}
