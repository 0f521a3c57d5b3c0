/** Questions about values whose shape nobody promised. */

export type JsonObject = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The member, when the value is an object that has it itself. */
export const member = (value: unknown, name: string): unknown => (isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined);

export const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

export const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]);

export const textsOf = (value: unknown): string[] => listOf(value).filter((item) => typeof item === 'string');

/** The first name of an object: libnftables writes every expression as `{ name: … }`. */
export const nameOf = (value: unknown): string | undefined => (isObject(value) ? Object.keys(value)[0] : undefined);
