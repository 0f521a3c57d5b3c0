/** A claim of the demo that did not hold. */
export class Unmet extends Error {
  override readonly name = 'Unmet';
}
