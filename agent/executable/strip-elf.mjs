/**
 * A program without what only debuggers read (14 % of Node), as `strip` leaves it: but the same bytes wherever it is made, and for
 * any machine. Sections that are not loaded lie at the end of the file; their headers and contents go, but for the names.
 *
 * @throws for what is no 64-bit little-endian ELF file, or has its sections in another order
 */
export function stripElf(file) {
  if (!file.subarray(0, 6).equals(ELF64_LITTLE_ENDIAN)) throw new Error('not a 64-bit little-endian ELF file');
  const [headersAt, headerBytes, count, namesIndex] = [Number(file.readBigUInt64LE(0x28)), file.readUInt16LE(0x3a), file.readUInt16LE(0x3c), file.readUInt16LE(0x3e)];
  const headers = Array.from({ length: count }, (_, index) => file.subarray(headersAt + index * headerBytes, headersAt + (index + 1) * headerBytes));
  const kept = headers.filter((header, index) => index === 0 || isLoaded(header));
  // The others refer to sections by their number.
  if (kept.some((header, index) => header !== headers[index])) throw new Error('a section that is not loaded comes before one that is');
  const end = Math.max(...kept.filter((header) => header.readUInt32LE(4) !== SHT_NOBITS).map((header) => offsetOf(header) + bytesOf(header)));
  const names = headers[namesIndex];
  const moved = Buffer.from(names);
  moved.writeBigUInt64LE(BigInt(end), 0x18);
  const padding = Buffer.alloc(-(end + bytesOf(names)) & 7);
  const stripped = Buffer.concat([file.subarray(0, end), file.subarray(offsetOf(names), offsetOf(names) + bytesOf(names)), padding, ...kept, moved]);
  stripped.writeBigUInt64LE(BigInt(end + bytesOf(names) + padding.length), 0x28);
  stripped.writeUInt16LE(kept.length + 1, 0x3c);
  stripped.writeUInt16LE(kept.length, 0x3e);
  return stripped;
}

const ELF64_LITTLE_ENDIAN = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
const SHT_NOBITS = 8;
const SHF_ALLOC = 2n;
const isLoaded = (header) => (header.readBigUInt64LE(8) & SHF_ALLOC) !== 0n;
const offsetOf = (header) => Number(header.readBigUInt64LE(0x18));
const bytesOf = (header) => Number(header.readBigUInt64LE(0x20));
