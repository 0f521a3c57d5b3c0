const MOST_CHARACTERS = 500;

/** What a Status object says: it names the right that is missing. Undefined where the body is none. */
export function statusMessage(body: string): string | undefined {
  try {
    const { message } = JSON.parse(body) as { readonly message?: unknown };
    return typeof message === 'string' && message !== '' ? message.slice(0, MOST_CHARACTERS) : undefined;
  } catch {
    return undefined;
  }
}
