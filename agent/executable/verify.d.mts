export const FUSE: string;
export function verify(executable: string, arch: string, blob: Buffer): void;
export function emulated(arch: string, executable: string): readonly string[] | undefined;
export function sha256(bytes: Buffer): string;
