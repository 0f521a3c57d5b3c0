declare module 'hcl2-parser' {
  const parser: { parseToObject(text: string): [any, string | null] };
  export default parser;
}
