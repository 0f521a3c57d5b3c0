/** The claim of a token that is bound to a pod (ServiceAccountTokenPodNodeInfo, on by default since 1.30). */
const NODE_CLAIM = 'authentication.kubernetes.io/node-name';
const KUBELET = 'system:node:';

/** Which node a SelfSubjectReview says that we are on: kubelet's user is called by it, and a pod's token carries it. Undefined for everybody else. */
export function nodeOfSelf(review: string): string | undefined {
  try {
    const { status } = JSON.parse(review) as { readonly status?: { readonly userInfo?: { readonly username?: unknown; readonly extra?: Readonly<Record<string, unknown>> } } };
    const { username, extra } = status?.userInfo ?? {};
    const claim = extra?.[NODE_CLAIM];
    if (Array.isArray(claim) && claim.length === 1 && typeof claim[0] === 'string') return claim[0];
    return typeof username === 'string' && username.startsWith(KUBELET) ? username.slice(KUBELET.length) : undefined;
  } catch {
    return undefined;
  }
}
