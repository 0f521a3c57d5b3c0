import { chainKey } from '../core/watch/outlook.ts';
import type { PathChain } from '../core/report.ts';
import type { ChangedChain, Transaction } from '../core/watch/transaction.ts';
import type { Rules } from './needs.ts';

/**
 * What the chains on the path said when the node was last looked at. A sync of kube-proxy deletes its rules and writes the
 * same again: the events alone do not tell that nothing changed, the chain does.
 */
export class Baseline {
  private readonly rules: Rules;
  private chains: Map<string, string> | undefined;
  private structure = '';
  private generation: number | undefined;

  constructor(rules: Rules) {
    this.rules = rules;
  }

  take(path: readonly PathChain[]): void {
    try {
      this.chains = new Map(path.flatMap((chain) => {
        const place = placeOf(chain);
        return place ? [[chainKey(place.family, place.table, place.chain), this.rules.signatureOf(place)]] : [];
      }));
      this.structure = this.rules.structure();
      this.generation = this.rules.generation();
    } catch {
      this.forget();
    }
  }

  /** While the node is looked at there is nothing to compare with. */
  forget(): void {
    this.chains = undefined;
  }

  /** A change that was under way when this was taken is in it, and may not be in what the look saw. */
  isChanged({ generation, chains, structure }: Pick<Transaction, 'generation' | 'chains' | 'structure'>): boolean {
    const known = this.chains;
    if (!known || this.generation === undefined || generation <= this.generation) return true;
    try {
      return (structure && this.rules.structure() !== this.structure) || chains.some((chain) => known.get(chainKey(chain.family, chain.table, chain.chain)) !== this.rules.signatureOf(chain));
    } catch {
      return true;
    }
  }
}

const NFT_FAMILY: Readonly<Record<string, ChangedChain['family']>> = { ipv4: 'ip', ipv6: 'ip6', ip: 'ip', ip6: 'ip6', inet: 'inet', bridge: 'bridge', netdev: 'netdev' };

/** Undefined for what events do not tell of: tables of iptables-legacy. */
function placeOf({ backend, family, table, chain }: PathChain): ChangedChain | undefined {
  const nft = NFT_FAMILY[family];
  return backend === 'legacy' || nft === undefined ? undefined : { family: nft, table, chain };
}
