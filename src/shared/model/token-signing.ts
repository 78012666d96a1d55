/** What a thread needs to sign the tokens that a tenant's login functions return. */

/** How to sign the tokens of a request's tenant. Holds that tenant's secret, and is discarded with the request. */
export interface TokenSigning {
  readonly secret: string;
  readonly algorithm: string;
  readonly audience: string;
  readonly issuer: string | null;
  /** The claim that holds the tenant id. */
  readonly tenantClaim: string | null;
  /** Lifetime of a token that has no `exp` of its own. */
  readonly expiresInSeconds: number;
}
